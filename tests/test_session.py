"""A session is frozen; a studio serves visitors in turn; a search can be watched and stopped."""

import copy
import dataclasses
import gc
import itertools
import json
import threading
import time
import warnings
import weakref
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from PIL import Image
from test_regions import SidesParser, with_parts

from stylegan_hub import studio as studio_module
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack, StackedEdit
from stylegan_hub.errors import ArtifactError, MethodError, MismatchError, NotFoundError
from stylegan_hub.hub import visitors
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import essence, get, gradient, local, table
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.methods.method import Nothing, Picture, Words
from stylegan_hub.methods.optimization import Settings
from stylegan_hub.methods.style_statistics import editable_channels
from stylegan_hub.methods.table import DirectionTable, bundled_table, table_layout
from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Search
from stylegan_hub.session import Session, label_of
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.studio import Studio
from stylegan_hub.text_to_face import TextToFace

QUICK = Settings(steps=3, shared_steps=0, views=1)
ENDLESS = Settings(steps=100_000, shared_steps=0, views=0)


@pytest.fixture
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture(scope="module")
def full_studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return make_full_studio(tiny_pipeline)


def make_full_studio(pipe: StyleEditPipeline) -> Studio:
    """A pipeline with a parser of left and right, and a text-to-face network of random weights."""
    pipe = with_parts(pipe, SidesParser())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TextToFace.for_pipeline(pipe)
        for parameter in network.condition.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    pipe.text_to_face = network.eval().requires_grad_(False)
    return Studio(pipe)


@pytest.fixture
def edit(tiny_pipeline: StyleEditPipeline) -> Direction:
    return make_edit(tiny_pipeline)


@pytest.fixture
def cards(
    tiny_pipeline: StyleEditPipeline,
    other_pipeline: StyleEditPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Only some cards for the tiny pipeline are bundled now, and one for another pipeline."""
    folder = tmp_path / "cards"
    write_cards(folder, tiny_pipeline, other_pipeline)
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(folder))
    return folder


def write_cards(folder: Path, pipe: StyleEditPipeline, other: StyleEditPipeline) -> None:
    """An "afro" with picture and numbers, a "beard" without, a foreign edit, a direction table."""
    afro = make_edit(pipe, 1, "an afro").save_pretrained(folder / "afro")
    (afro / "metrics.json").write_text(json.dumps({"success": 0.93, "collateral": 0.07}))
    (afro / "images").mkdir()
    Image.linear_gradient("L").resize((64, 16)).save(afro / "images" / "before-after.webp")
    make_edit(pipe, 2, "a beard").save_pretrained(folder / "beard")
    make_edit(other, 3, "an afro").save_pretrained(folder / "strangers")
    make_table(pipe).save_pretrained(folder / "tiny-directions")


def make_edit(pipe: StyleEditPipeline, seed: int = 0, prompt: str | None = None) -> Direction:
    vector = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
    strength = Strength(default=1.0, min=-1.5, max=1.5)
    return Direction(vector, "w_plus", pipe.base_model, strength, Origin(prompt))


def make_mapper(pipe: StyleEditPipeline) -> LatentMapper:
    """An edit whose step differs for every face."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        groups = mapper_groups(pipe.generator)
        return LatentMapper(groups, Space.W_PLUS, pipe.base_model, scale=1.0)


def in_s(pipe: StyleEditPipeline) -> Direction:
    return Direction(0.1 * torch.ones(pipe.generator.num_styles), "s", pipe.base_model)


def make_table(pipe: StyleEditPipeline) -> DirectionTable:
    """A table that looks measured to its users; the effects of its channels are made up."""
    index = torch.tensor(editable_channels(pipe))
    draw = torch.Generator().manual_seed(0)
    relevance = torch.randn(len(index), pipe.clip.config.projection_dim, generator=draw)
    ones = torch.ones(pipe.generator.num_styles)
    return DirectionTable(
        0.4 * torch.nn.functional.normalize(relevance),  # so that a threshold can be too high
        index,
        ones,
        ones,
        pipe.base_model,
        pipe.clip_model,
        table_layout(pipe, include_to_rgb=False),
    )


# A session


def test_a_change_gives_a_new_session(edit: Direction) -> None:
    session = Session(seed=7)
    edited = session.with_edit(edit)
    assert session.edits == ()
    assert edited.edits == (StackedEdit(edit, 1.0),)
    assert stronger(edited, -0.5).edits == (StackedEdit(edit, -0.5),)
    assert edited.with_seed(8).edits == edited.edits
    assert edited.without_edits() == session
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.seed = 8  # type: ignore[misc]


def stronger(session: Session, strength: float, index: int = 0) -> Session:
    return session.with_stack(session.stack.with_strength(index, strength))


def limited(session: Session, region: str | None, index: int = 0) -> Session:
    return session.with_stack(session.stack.with_region(index, region))


def test_strengths_stack(edit: Direction) -> None:
    session = Session().with_edit(edit, name="afro").with_edit(edit, 0.5, "beard")
    session = stronger(session, -1)
    assert [(a.name, a.strength) for a in session.edits] == [("afro", -1), ("beard", 0.5)]
    assert [a.name for a in session.with_stack(session.stack.removed(0)).edits] == ["beard"]


def test_words_found_again_take_the_place_of_the_first(tiny_pipeline: StyleEditPipeline) -> None:
    hat, beard, other_hat = (
        make_edit(tiny_pipeline, seed, prompt)
        for seed, prompt in enumerate(("a hat", "a beard", "a hat"))
    )
    session = Session().with_found(hat).with_edit(hat, name="a hat").with_found(beard)
    again = stronger(session, 0.3).with_found(other_hat)
    assert [a.edit for a in again.edits] == [other_hat, hat, beard]
    assert [a.strength for a in again.edits] == [0.3, 1, 1]
    assert [a.edit for a in again.without_found("a hat").edits] == [hat, beard]
    assert again.without_found("glasses") == again


def test_a_session_can_be_copied(studio: Studio, edit: Direction) -> None:
    session = studio.keep(Session(seed=7).with_edit(edit)).with_edit(edit, 0.5)
    again = copy.deepcopy(session)
    assert [pixels(p) for p in studio.draw(again)] == [pixels(p) for p in studio.draw(session)]


def test_title(edit: Direction, tiny_pipeline: StyleEditPipeline) -> None:
    assert Session(seed=7).with_edit(edit).title == "face-7-direction"
    found = make_edit(tiny_pipeline, prompt="Zoë's ../purple  HAIR!")
    assert Session(seed=7).with_found(found).title == "face-7-zo-s-purple-hair"
    stack = Session(seed=7).with_edit(edit, name="me/afro@main").with_found(found)
    assert stack.title == "face-7-me-afro-main-zo-s-purple-hair"
    assert len(Session().with_edit(edit, name="x" * 200).with_found(found).title) <= 80


def test_a_place_that_is_not_there(edit: Direction) -> None:
    """The checks are those of the stack."""
    session = Session().with_edit(edit)
    for index in (-1, 1):
        with pytest.raises(ValueError, match=f"Got place {index} in a stack of 1 edits"):
            stronger(session, 1.0, index)
    for strength in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"Got strength {strength}"):
            stronger(session, strength)


def test_the_order_of_the_stack(edit: Direction) -> None:
    session = Session()
    for name in ("a", "b", "c"):
        session = session.with_edit(edit, name=name)
    assert called(session.with_stack(session.stack.moved(0, 2))) == ["b", "c", "a"]
    assert called(session.with_stack(session.stack.moved(2, 1))) == ["a", "c", "b"]
    assert called(session) == ["a", "b", "c"]


def called(session: Session) -> list[str | None]:
    return [applied.name for applied in session.edits]


def test_regions_of_edits(edit: Direction) -> None:
    session = Session().with_edit(edit, name="a").with_edit(edit, name="b")
    in_hair = limited(session, "hair")
    assert [applied.region for applied in in_hair.edits] == ["hair", None]
    assert limited(in_hair, None) == session
    assert stronger(in_hair, 0.5).edits[0].region == "hair"
    with pytest.raises(ValueError, match="Got place 2 in a stack of 2 edits"):
        limited(session, "hair", 2)


def test_another_face_by_its_latent(edit: Direction, tiny_pipeline: StyleEditPipeline) -> None:
    latents = tiny_pipeline.sample(3)
    session = dataclasses.replace(Session(seed=7).with_edit(edit), latents=latents)
    assert session.latents is latents and session.title == "face-direction"
    assert session.with_seed(7) == Session(seed=7).with_edit(edit)


def test_a_face_in_s_takes_no_edit_in_w_plus(
    edit: Direction, tiny_pipeline: StyleEditPipeline
) -> None:
    pipe = tiny_pipeline
    kept = Session(latents=pipe.lower(pipe.sample(0), "s"))
    with pytest.raises(ValueError, match=r"'beard' moves whole layers \(w_plus\).*Use another"):
        kept.with_edit(edit, name="beard")
    assert kept.with_edit(in_s(pipe)).edits
    kept.check_takes(Space.S, "anything")


def test_what_is_found_is_called_by_what_it_was_found_for(
    tiny_pipeline: StyleEditPipeline,
) -> None:
    def found(prompt: str | None, **training: object) -> Direction:
        origin = Origin(prompt, training=training)
        base = tiny_pipeline.base_model
        return Direction(torch.zeros(8, 16), "w_plus", base, origin=origin)

    edits = [
        found("curly hair"),
        found("curly hair", method=local.Local.name, region="hair"),
        found(None, method=local.Local.name, region="hair", background=True),
        found(None, method=essence.Essence.name, target="my cat"),
        found(None),
    ]
    session = Session()
    for edit in edits:
        session = session.with_found(edit)
    labels = ["curly hair", "curly hair (hair)", "a change (all but hair)", "essence of my cat"]
    assert [label_of(applied) for applied in session.edits] == [*labels, "direction"]
    assert get("local").caption(edits[1].origin) == labels[1]
    assert get("essence").caption(edits[3].origin) == labels[3]
    again = session.with_found(found("curly hair", method=local.Local.name, region="hair"))
    assert len(again.edits) == len(session.edits) and again != session
    assert len(session.without_found("curly hair (hair)").edits) == 4


# Pictures


def test_draw(studio: Studio, edit: Direction) -> None:
    session = Session(seed=7)
    before, after = studio.draw(session)
    assert pixels(before) == pixels(after) == pixels(studio.faces([7])[0])
    before, after = studio.draw(session.with_edit(edit))
    assert pixels(before) != pixels(after)
    assert pixels(studio.draw(session.with_edit(edit, 0.0))[1]) == pixels(before)
    assert pixels(studio.draw(dataclasses.replace(session, truncation_psi=0.0))[0]) != pixels(
        before
    )


def test_a_slider_draws_one_picture_a_move(
    studio: Studio, edit: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(seed=7).with_edit(edit)
    studio.draw(session)
    drawn = []
    call = Redrawing.__call__

    def counted(drawing: Redrawing, s: torch.Tensor) -> torch.Tensor:
        picture = call(drawing, s)
        drawn.append(drawing.layers_drawn)
        return picture

    monkeypatch.setattr(Redrawing, "__call__", counted)
    studio.draw(stronger(session, 0.5))
    studio.draw(stronger(session, 0.5))
    assert len(drawn) == 1


def test_a_slider_of_fine_layers_draws_only_these(studio: Studio) -> None:
    layer = studio.pipe.generator.style_layout[-2]
    vector = torch.zeros(studio.pipe.generator.num_styles)
    vector[layer.start : layer.stop] = 1.0
    fine = Direction(vector, Space.S, studio.pipe.base_model)
    session = Session(seed=7).with_edit(fine)
    studio.draw(session)
    before, after = studio.draw(stronger(session, 0.25))
    assert studio.rendering._redrawing(7, session.truncation_psi, None, None).layers_drawn == 2
    expected = studio.pipe(seed=7, edits=[(fine, 0.25)]).images[0]
    assert pixels(after) == pixels(expected) != pixels(before)


def test_keep(studio: Studio, edit: Direction) -> None:
    session = Session(seed=7).with_edit(edit)
    kept = studio.keep(session)
    assert kept.edits == ()
    assert pixels(studio.draw(kept)[0]) == pixels(studio.draw(session)[1])
    assert kept.title == "face"
    assert kept.with_seed(7) == Session(seed=7)
    assert studio.keep(dataclasses.replace(session, text="an old man")).text is None


def test_an_edit_shows_in_its_region(full_studio: Studio, edit: Direction) -> None:
    studio = full_studio
    session = Session(seed=7).with_edit(edit)
    whole = picture(studio, session)
    left = picture(studio, limited(session, "left side"))
    before = picture(studio, Session(seed=7))
    assert not torch.equal(whole[:, 20:], before[:, 20:])
    assert torch.equal(left[:, 20:], before[:, 20:])
    assert not torch.equal(left[:, :12], before[:, :12])
    with pytest.raises(ValueError, match=r"limited to left side.*save the stack"):
        studio.keep(limited(session, "left side"))


def test_a_region_without_a_parser(studio: Studio, edit: Direction) -> None:
    assert studio.regions == []
    with pytest.raises(ValueError, match=r"no parser.*recipes/train_parser.py"):
        studio.draw(limited(Session().with_edit(edit), "hair"))


def picture(studio: Studio, session: Session) -> torch.Tensor:
    """Pixels of the face after the edits, `[h, w, 3]`."""
    image = studio.draw(session)[1]
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(32, 32, 3)


def test_the_order_of_edits_does_not_matter(
    studio: Studio, edit: Direction, tiny_pipeline: StyleEditPipeline
) -> None:
    """Not even that of a mapper, which sees the face without any edit; Python renders the same."""
    first = Session(seed=7).with_edit(edit).with_edit(make_mapper(tiny_pipeline), 0.5)
    drawn = pixels(studio.draw(first)[1])
    assert pixels(studio.draw(first.with_stack(first.stack.moved(0, 1)))[1]) == drawn
    pairs = [(applied.edit, applied.strength) for applied in reversed(first.edits)]
    assert pixels(tiny_pipeline(seed=7, edits=pairs).images[0]) == drawn


def test_stack_in_a_file(full_studio: Studio, edit: Direction, tmp_path: Path) -> None:
    studio = full_studio
    session = Session(seed=7).with_edit(edit, 0.5, "afro").with_edit(in_s(studio.pipe), -1.0)
    session = limited(session, "left side")
    studio.save_stack(session, tmp_path / "face.safetensors")
    loaded = studio.load_stack(Session(seed=1), tmp_path / "face.safetensors")
    assert [(a.name, a.strength, a.region) for a in loaded.edits] == [
        ("afro", 0.5, "left side"),
        (None, -1.0, None),
    ]
    assert [pixels(p) for p in studio.draw(loaded)] == [pixels(p) for p in studio.draw(session)]

    EditStack(session.edits).save(tmp_path / "edits.safetensors")
    nobody = studio.load_stack(Session(seed=1), tmp_path / "edits.safetensors")
    assert nobody.latents is None and nobody.seed == 1


def test_stacks_that_cannot_be_used_here(
    full_studio: Studio,
    studio: Studio,
    edit: Direction,
    other_pipeline: StyleEditPipeline,
    tmp_path: Path,
) -> None:
    path, pipe = tmp_path / "face.safetensors", studio.pipe
    stacks = {
        "fingerprint": EditStack().added(make_edit(other_pipeline)),
        "no parser": EditStack().added(edit, region="left side"),
        "Got a stack on 2 faces; expected one": EditStack(start=pipe.sample([1, 2])),
        r"shape \[1, 3, 16\]": EditStack(start=Latents("w_plus", torch.zeros(1, 3, 16))),
        "moves whole layers": EditStack(start=pipe.lower(pipe.sample(0), "s")).added(edit),
    }
    for expected, stack in stacks.items():
        stack.save(path)
        with pytest.raises(ValueError, match=expected):
            studio.load_stack(Session(), path)
    EditStack().added(edit, region="tail").save(path)
    with pytest.raises(ValueError, match="Unknown region 'tail'; this parser knows hair"):
        full_studio.load_stack(Session(), path)


def test_edit_of_another_generator(
    studio: Studio, other_pipeline: StyleEditPipeline, edit: Direction
) -> None:
    stranger = Direction(edit.vector, "w_plus", other_pipeline.base_model)
    with pytest.raises(MismatchError, match="fingerprint"):
        studio.draw(Session().with_edit(stranger))


# A search


def hat(**options: Any) -> dict[str, Any]:
    """Arguments of a search for a hat by latent optimization."""
    return {"request": Words(" a hat "), "method": "optimization", **options}


def only(search: Search[Step, list[Edit]]) -> Edit:
    (found,) = search.result()
    return found


def test_search(studio: Studio) -> None:
    settings = dataclasses.replace(QUICK, space=Space.S)
    with studio.search(Session(seed=7), **hat(settings=settings)) as search:
        steps = list(search)
        found = only(search)
    assert [(step.index, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert found.space is Space.S
    assert found.origin.prompt == "a hat"


def test_a_search_takes_the_best_method_and_a_preset_by_name(studio: Studio, cards: Path) -> None:
    session, words = Session(seed=7), Words("a hat")
    assert studio.method_for(session, words).name == "optimization"
    assert studio.method_for(session, words, every_face=True).name == "table"
    found = only(studio.search(session, words, every_face=True, settings="published"))
    assert found.origin.training["method"] == "table"
    assert found.origin.training["channels"] == 20
    with pytest.raises(MethodError) as error:
        studio.search(session, words, "tables")
    assert error.value.got == "tables" and "table" in error.value.expected
    with pytest.raises(MethodError) as error:
        studio.search(session, words, "table", settings="best")
    assert error.value.got == "best"


def test_an_edit_of_one_face_is_found_on_the_face_as_shown(studio: Studio, edit: Direction) -> None:
    """With the edits applied; the found edit is added to them."""
    bare, edited = Session(seed=7), Session(seed=7).with_edit(edit)
    found = [only(studio.search(session, **hat(settings=QUICK))) for session in (bare, edited)]
    latents = studio.keep(edited).latents
    assert latents is not None
    expected = studio.pipe.find(Words("a hat"), latents, method="optimization", settings=QUICK)
    assert torch.equal(found[1].vector, expected.vector)
    assert not torch.equal(found[0].vector, found[1].vector)
    both = studio.keep(edited.with_found(found[1])).latents
    assert both is not None
    torch.testing.assert_close(both.codes, latents.codes + found[1].vector)


def test_all_edits_of_a_search(full_studio: Studio) -> None:
    settings = dataclasses.replace(local.WITHOUT_WORDS, steps=2, batch_size=2, directions=3)
    search = full_studio.search(
        Session(), Nothing("hair"), "local", every_face=True, settings=settings
    )
    assert len(search.result()) == 3


def test_each_of_all_edits_keeps_what_it_should(full_studio: Studio) -> None:
    settings = local.Settings(steps=2, batch_size=2)
    how = {"method": "local", "settings": settings}
    words = Words("curly hair", keep=("glasses",))
    found = only(full_studio.search(Session(seed=7), words, **how))
    assert found.origin.training["keep"] == ["glasses"]
    face = full_studio.face(Session(seed=7))
    assert torch.equal(found.vector, full_studio.pipe.find(words, face, **how).vector)


def test_face_kept_in_s_is_edited_in_s(studio: Studio) -> None:
    settings = dataclasses.replace(QUICK, space=Space.S)
    with studio.search(Session(seed=7), **hat(settings=settings)) as search:
        kept = studio.keep(Session(seed=7).with_edit(only(search)))
    with studio.search(kept, Words("a beard"), "optimization", settings=QUICK) as search:
        assert only(search).space is Space.S


def test_stop(studio: Studio) -> None:
    search = studio.search(Session(), **hat(settings=ENDLESS, owner="me"))
    studio.stop("you")
    assert next(iter(search)).index == 1
    studio.stop("me")
    studio.stop("me")  # stopping twice does no harm
    for step in search:
        assert step.index < 1000
    with pytest.raises(Cancelled):
        search.result()


def test_leaving_the_block_stops(studio: Studio) -> None:
    with (
        pytest.raises(KeyError),
        studio.search(Session(), **hat(settings=ENDLESS)) as search,
    ):
        raise KeyError
    with pytest.raises(Cancelled):
        search.result()


def test_a_new_search_stops_the_one_before(studio: Studio) -> None:
    first = studio.search(Session(), **hat(settings=ENDLESS, owner="me"))
    beard = hat(request=Words("a beard"), settings=QUICK, owner="me")
    second = studio.search(Session(), **beard)
    with pytest.raises(Cancelled):
        first.result()
    assert only(second).origin.prompt == "a beard"


def test_what_was_found_goes_with_whoever_asked(studio: Studio) -> None:
    found = weakref.ref(only(studio.search(Session(), **hat(settings=QUICK, owner="me"))))
    gc.collect()
    assert found() is None
    studio.stop("me")


def test_what_a_search_raises_is_raised_at_its_result(studio: Studio) -> None:
    search = studio.search(Session(), **hat(settings=Settings(id_lambda=0.1)))
    assert list(search) == []
    with pytest.raises(ValueError, match="no recognizer"):
        search.result()


@pytest.mark.parametrize("words", ["", " \n"])
def test_no_words(studio: Studio, words: str) -> None:
    with pytest.raises(ValueError, match="Got no words"):
        studio.search(Session(), Words(words))


def test_too_many_words(studio: Studio) -> None:
    with pytest.raises(ValueError, match="Got 10000 words, 10000 tokens; this CLIP reads 22"):
        studio.search(Session(), Words("hat " * 10_000))


def test_unfamiliar_words(studio: Studio) -> None:
    assert studio.unfamiliar("A smiling face, with a HAT!") == []
    assert studio.unfamiliar("a face with zebra-hair 12") == ["zebra"]


def test_seed_out_of_range(studio: Studio) -> None:
    for call in (studio.draw, lambda session: studio.search(session, Words("a hat"))):
        with pytest.raises(ValueError, match="Got seed -1"):
            call(Session(seed=-1))


def test_others_are_served_between_the_steps_of_a_search(studio: Studio) -> None:
    with studio.search(Session(), **hat(settings=ENDLESS)) as search:
        next(iter(search))
        started = time.perf_counter()
        for _ in range(3):
            studio.draw(Session(seed=3))
        assert time.perf_counter() - started < 5
        assert next(iter(search)).index < ENDLESS.steps


def test_one_model_call_at_a_time(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    most: list[int] = []
    draw = Redrawing.__call__

    def watched(drawing: Redrawing, s: torch.Tensor) -> torch.Tensor:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return draw(drawing, s)

    monkeypatch.setattr(Redrawing, "__call__", watched)
    threads = [threading.Thread(target=studio.draw, args=(Session(seed=i),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 6


# The essence of a picture


def test_search_essence(studio: Studio) -> None:
    target = studio.target(Image.linear_gradient("L").resize((80, 40)))
    assert target.size == (32, 32)
    settings = essence.Settings(steps=2, sources=4, batch_size=2, restarts=1)
    request = Picture(target, " a gradient ")
    with studio.search(Session(), request, every_face=True, settings=settings) as search:
        assert [(step.index, step.total) for step in search] == [(1, 2), (2, 2)]
        found = only(search)
    assert found.origin.training["target"] == "a gradient"
    row = studio.faces([3, 4], edits=[(found, 1.0)])
    assert pixels(row[0]) == pixels(studio.draw(Session(seed=3).with_found(found))[1])
    assert pixels(row[0]) != pixels(studio.faces([3])[0])
    with pytest.raises(ValueError, match="Got no name for the target"):
        Picture(target, " ")


def test_stop_of_a_search_for_an_essence(studio: Studio) -> None:
    settings = essence.Settings(steps=100_000, sources=2, batch_size=2, restarts=1)
    target = Picture(studio.faces([1])[0], "somebody")
    search = studio.search(Session(), target, every_face=True, settings=settings, owner="me")
    assert next(iter(search)).index == 1
    studio.stop("me")
    with pytest.raises(Cancelled):
        search.result()


# A part of the face


def test_region(full_studio: Studio, studio: Studio) -> None:
    assert {"hair", "expression", "left side"} < set(full_studio.regions)
    assert full_studio.region("curly hair").name == "hair"
    assert full_studio.region("curly hair", ["eyes", "left side"]).name == "eyes, left side"
    with pytest.raises(ValueError, match="Got neither words nor a region"):
        full_studio.region(" ")
    with pytest.raises(ValueError, match="Unknown region 'tail'"):
        full_studio.region("", ["tail"])
    with pytest.raises(ValueError, match="this CLIP reads 22"):
        full_studio.region("hair " * 10_000)
    with pytest.raises(ValueError, match="no parser"):
        studio.region("curly hair")


def test_mark(full_studio: Studio) -> None:
    left = full_studio.region("", ["left side"])
    marks = [full_studio.mark(Session(seed=7), left, background) for background in (False, True)]
    for mark, (outside, inside) in zip(marks, ((20, 4), (4, 20)), strict=True):
        red, green, blue = mark.getpixel((outside, 16))
        assert red == green == blue and red > 120
        assert len(set(mark.getpixel((inside, 16)))) > 1


@pytest.mark.parametrize("this_face", [True, False])
def test_search_local(full_studio: Studio, this_face: bool) -> None:
    region = full_studio.region("a face with curly hair")
    settings = local.Settings(steps=2, batch_size=2, space=Space.W)
    search = full_studio.search(
        Session(seed=7),
        Words(" curly hair ", region=region.name),
        "local",
        every_face=not this_face,
        settings=settings,
    )
    with search:
        assert [step.index for step in search] == [1, 2]
        found = only(search)
    training = found.origin.training
    assert (found.origin.prompt, training["region"], training["searched_in"]) == (
        "curly hair", "hair", "w"
    )  # fmt: skip
    assert training["faces"] == ("1 given" if this_face else "4 random")


def test_search_local_without_words(full_studio: Studio) -> None:
    settings = dataclasses.replace(local.WITHOUT_WORDS, steps=2, batch_size=2)
    face_in_s = Session(latents=full_studio.pipe.lower(full_studio.pipe.sample(0), "s"))
    with full_studio.search(face_in_s, Nothing("left side"), "local", settings=settings) as search:
        found = only(search)
    assert found.origin.prompt is None and found.space is Space.S
    with pytest.raises(ValueError, match="this CLIP reads 22"):
        full_studio.search(Session(), Words("hair " * 10_000, region="left side"))


# From words to faces


def test_search_faces(full_studio: Studio) -> None:
    assert full_studio.has_text_to_face
    with full_studio.search_faces(" a hat ", [4, 5], 0.9, 2) as search:
        faces = list(search)
        assert search.result() == faces and len(faces) == 2
    for seed, (image, latents) in zip((4, 5), faces, strict=True):
        expected = full_studio.pipe.from_text("a hat", seed, 0.9, 2)
        drawn, codes = expected.images[0], expected.latents
        assert pixels(image) == pixels(drawn)
        torch.testing.assert_close(latents.codes, codes.codes)
        assert pixels(full_studio.draw(Session(latents=latents))[0]) == pixels(image)
    for text, message in {" ": "Got no words", "hat " * 99: "this CLIP reads 22"}.items():
        with pytest.raises(ValueError, match=message):
            full_studio.search_faces(text, [0])


def test_stop_of_a_search_for_faces(full_studio: Studio) -> None:
    search = full_studio.search_faces("a hat", range(100_000), owner="me")
    assert len(list(itertools.islice(search, 2))) == 2
    full_studio.stop("me")
    with pytest.raises(Cancelled):
        search.result()


def test_no_text_to_face(studio: Studio, cards: Path, full_studio: Studio) -> None:
    studio.pipe.text_to_face = None
    assert not studio.has_text_to_face
    with pytest.raises(NotFoundError, match=r"recipes/train_text_to_face.py"):
        studio.search_faces("a hat", [0]).result()
    assert full_studio.pipe.text_to_face is not None
    full_studio.pipe.text_to_face.save_pretrained(cards / "text-to-face")
    assert Studio(studio.pipe).has_text_to_face
    studio.pipe.text_to_face = None


# An edit for every face


def test_direction_from_the_bundled_table(
    studio: Studio, cards: Path, tiny_pipeline: StyleEditPipeline
) -> None:
    words = Words(" a hat ", " a face ")
    every = {"method": "table", "every_face": True}
    found = only(studio.search(Session(), words, **every, settings=table.Settings(channels=5)))
    expected = make_table(tiny_pipeline).direction(tiny_pipeline, "a hat", "a face", channels=5)
    assert torch.equal(found.vector, expected.vector)
    assert (found.origin.prompt, found.origin.neutral) == ("a hat", "a face")
    too_high = studio.search(Session(), words, **every, settings=table.Settings(threshold=0.99))
    with pytest.raises(ValueError, match=r"largest usable one is 0"):
        too_high.result()


def test_table_of_another_pipeline_is_left_alone(
    cards: Path, other_pipeline: StyleEditPipeline
) -> None:
    assert bundled_table(other_pipeline) is None
    with pytest.raises(MethodError, match="No direction table"):
        Studio(other_pipeline).search(Session(), Words("a hat"), "table")


def test_damaged_table(studio: Studio, cards: Path) -> None:
    weights = cards / "tiny-directions" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="tiny-directions"):
        studio.search(Session(), Words("a hat"), "table")


@pytest.fixture
def bare(studio: Studio, cards: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A studio without a direction table, and without earlier results."""
    (cards / "tiny-directions" / "config.json").unlink()
    monkeypatch.setattr(gradient, "_FOUND", WeakKeyDictionary())
    return studio


def for_everybody(studio: Studio, words: str, **options: Any) -> Search[Step, list[Edit]]:
    request = Words(words, options.pop("neutral", None))
    return studio.search(Session(), request, "gradient", every_face=True, **options)


def test_search_for_everybody(bare: Studio, tiny_pipeline: StyleEditPipeline) -> None:
    with for_everybody(bare, " a hat", neutral="a face") as search:
        assert [step.index for step in search] == list(range(1, gradient.Settings.steps + 1))
        found = only(search)
    again = for_everybody(bare, "a hat", neutral="a face ")
    assert list(again) == [] and only(again).vector is found.vector

    few = for_everybody(bare, "a hat", settings=gradient.Settings(channels=5))
    assert list(few) == []
    monkeyed = gradient._FOUND.pop(tiny_pipeline.generator)
    expected = tiny_pipeline.find(
        "a hat", method="gradient", settings=gradient.Settings(channels=5)
    )
    assert monkeyed
    torch.testing.assert_close(only(few).vector, expected.vector)
    assert only(few).origin == expected.origin
    for channels in (0, 10_000):
        with pytest.raises(ValueError, match=f"Got channels {channels}; expected 1 "):
            settings = gradient.Settings(channels=channels)
            for_everybody(bare, "a hat", settings=settings).result()


def test_only_so_many_directions_are_kept(bare: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "_KEPT", 1)
    for words in ("a hat", "a beard"):
        for_everybody(bare, words).result()
    is_known = [list(for_everybody(bare, words)) == [] for words in ("a beard", "a hat")]
    assert is_known == [True, False]


def test_stop_of_a_search_for_everybody(bare: Studio) -> None:
    search = for_everybody(bare, "a hat", owner="me")
    assert next(iter(search)).index == 1
    bare.stop("me")
    with pytest.raises(Cancelled):
        search.result()
    assert next(iter(for_everybody(bare, "a hat"))).index == 1  # nothing of it was kept


@pytest.mark.parametrize("method", ["table", "gradient"])
@pytest.mark.parametrize(
    ("target", "neutral", "message"),
    [
        ("", "a face", "Got no words"),
        ("a hat", " ", "Got no words"),
        ("hat " * 10_000, "a face", "Got 10000 words, 10000 tokens; this CLIP reads 22"),
        ("a face", "a face", "are the same to this CLIP"),
    ],
)
def test_words_for_everybody(
    studio: Studio, cards: Path, method: str, target: str, neutral: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        studio.search(Session(), Words(target, neutral), method, every_face=True).result()


# A generator with labels


@pytest.fixture(scope="module")
def labeled(tiny_pipeline: StyleEditPipeline) -> Studio:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(
            z_dim=16, w_dim=16, c_dim=3, img_resolution=32, channels=[8, 8, 8, 8],
            num_mapping_layers=2,
        )  # fmt: skip
    parts = {
        name: getattr(tiny_pipeline, name) for name in ("clip", "tokenizer", "image_processor")
    }
    return Studio(StyleEditPipeline(generator, **parts))


def test_the_label_of_a_face(labeled: Studio) -> None:
    first, second = (Session(seed=7, label=label) for label in (0, 1))
    assert pixels(labeled.draw(first)[0]) != pixels(labeled.draw(second)[0])
    assert pixels(labeled.draw(second)[0]) == pixels(labeled.faces([7], label=1)[0])
    as_vector = Session(seed=7, label=[0.0, 1.0, 0.0])
    assert hash(as_vector) == hash(Session(seed=7, label=torch.tensor([0.0, 1.0, 0.0])))
    assert pixels(labeled.draw(as_vector)[0]) == pixels(labeled.draw(second)[0])
    found = only(labeled.search(second, Words("a hat"), settings=QUICK))
    assert pixels(labeled.draw(second.with_found(found))[1]) != pixels(labeled.draw(second)[0])
    with pytest.raises(ValueError, match=r"label 3; .*classes 0 to 2"):
        labeled.draw(Session(label=3))


def test_a_label_for_a_generator_without(studio: Studio) -> None:
    with pytest.raises(ValueError, match="trained without labels"):
        studio.draw(Session(label=0))


# The zoo


def test_zoo(studio: Studio, cards: Path) -> None:
    infos, problems = studio.zoo()
    assert [info.name for info in infos] == ["afro", "beard"]
    assert problems == []


def test_zoo_says_what_it_left_out(studio: Studio, cards: Path) -> None:
    (cards / "beard" / "config.json").write_text("{")
    infos, (problem,) = studio.zoo()
    assert [info.name for info in infos] == ["afro"]
    assert "beard" in problem and "not JSON" in problem


def test_zoo_without_a_hub(studio: Studio, cards: Path) -> None:
    infos, (problem,) = studio.zoo(include_hub=True)
    assert [info.name for info in infos] == ["afro", "beard"]
    assert "The Hub could not be reached, so only bundled edits are listed" in problem


def test_two_visitors_leave_the_warnings_of_the_process_alone(
    studio: Studio, cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turn: the first looks at the zoo, the second looks, the first ends, the second ends."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    listed = studio_module.list_edits

    def slow(**options: object) -> object:
        if threading.current_thread().name == "first":
            first_in.set()
            assert second_in.wait(60)
        else:
            second_in.set()
            assert first_out.wait(60)
        return listed(**options)  # type: ignore[arg-type]

    def look() -> None:
        warnings.warn("something else", stacklevel=1)
        found.append(studio.zoo())

    def look_first() -> None:
        look()
        first_out.set()

    def look_second() -> None:
        assert first_in.wait(60)
        look()

    found: list[object] = []
    monkeypatch.setattr(studio_module, "list_edits", slow)
    before = (list(warnings.filters), warnings.showwarning, warnings._showwarnmsg_impl)
    with pytest.warns(UserWarning, match="something else") as caught:
        inside = (list(warnings.filters), warnings.showwarning, warnings._showwarnmsg_impl)
        threads = [
            threading.Thread(target=look_first, name="first"),
            threading.Thread(target=look_second),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = (list(warnings.filters), warnings.showwarning, warnings._showwarnmsg_impl)
    assert len(found) == 2 and len(caught) == 2  # both warnings reached their own callers
    assert inside == after
    assert before == (list(warnings.filters), warnings.showwarning, warnings._showwarnmsg_impl)
    assert [problems for _, problems in found] == [[], []]  # type: ignore[misc,str-unpack]


def test_load(studio: Studio, cards: Path) -> None:
    assert studio.load(" afro ").origin.prompt == "an afro"
    with pytest.raises(MismatchError, match="fingerprint"):
        studio.load("strangers")
    with pytest.raises(ArtifactError, match="Use load_directions"):
        studio.load("tiny-directions")
    with pytest.raises(NotFoundError, match=r"'afros'.*Did you mean 'afro'"):
        studio.load("afros")
    with pytest.raises(NotFoundError, match="me/afro"):
        studio.load("me/afro")


def test_visitors_never_act_with_the_operators_login(
    studio: Studio, cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[object] = []
    for module, name in ((studio_module, "list_edits"), (visitors, "Repository")):
        real = getattr(module, name)

        def noted(*args: Any, real: Any = real, **options: Any) -> Any:
            tokens.append(options.get("token"))
            return real(*args, **options)

        monkeypatch.setattr(module, name, noted)
    for ask in (studio.load, studio.look):
        with pytest.raises(NotFoundError):
            ask("me/afro")
    studio.zoo(include_hub=True)
    assert tokens == [False, False, False]


@pytest.mark.parametrize("name", ["", ".", "..", "../cards/afro", "a/b/c", "/etc", "mine", "me/it"])
def test_folders_are_not_read_for_anybody_who_asks(
    studio: Studio, cards: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cards.parent)
    for folder in ("mine", "me/it"):
        (cards.parent / folder).mkdir(parents=True)
    unreadable = r"expected the name of a bundled edit, or a Hub id|no edit 'mine'|not give me/it"
    with pytest.raises((ValueError, NotFoundError), match=unreadable):
        studio.load(name)


def pixels(picture: object) -> bytes:
    return picture.tobytes()  # type: ignore[attr-defined, no-any-return]
