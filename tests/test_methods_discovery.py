"""The generator's own sliders: their sources, their names, and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import get
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.discovery import (
    DEFAULT,
    PCA,
    SEFA,
    Bank,
    Discovery,
    Settings,
    candidates,
)
from stylegan_hub.methods.method import Nothing, caption
from stylegan_hub.methods.word_bank import ANYTHING, FACES, THINGS
from stylegan_hub.models.parser import Parser
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import Cancelled, Step

QUICK = Settings(count=5, components=3, faces=2, confidence=0.0)


class HalvesParser(Parser):
    """Sees hair in the upper half of a picture and clothes in the lower one."""

    def __init__(self) -> None:
        super().__init__(parts=("hair", "clothes", "hat"), width=4, input_size=32, stem_stride=1)

    def forward(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        logits = torch.full((n, 3, height, width), -20.0)
        logits[:, 0, : height // 2] = 20.0
        logits[:, 1, height // 2 :] = 20.0
        return logits


@pytest.fixture(scope="module")
def parsing(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    clip = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    return StyleEditPipeline(tiny_pipeline.generator, *clip, parser=HalvesParser())


def test_axes_of_w(tiny_pipeline: StyleEditPipeline) -> None:
    settings = replace(PCA, layers=("all",), components=4, deviations=3.0)
    found = candidates(tiny_pipeline, settings)
    w = tiny_pipeline.sample(range(2048), 1.0).codes[:, 0]
    _, sizes, axes = torch.linalg.svd(w - w.mean(0), full_matrices=False)
    assert len(found) == 4
    for index, one in enumerate(found):
        assert one.found == {"source": "pca", "layers": "all", "component": index}
        assert one.vector.eq(one.vector[:1]).all()  # the same for all layers
        row = one.vector[0]
        assert float(row.norm()) == pytest.approx(3 * float(sizes[index]) / 2047**0.5, rel=1e-3)
        assert abs(float(F.cosine_similarity(row, axes[index], dim=0))) > 0.999


def test_directions_that_layers_read(tiny_pipeline: StyleEditPipeline) -> None:
    settings = replace(SEFA, layers=("coarse",), components=2, deviations=1.0)
    found = candidates(tiny_pipeline, settings)
    generator = tiny_pipeline.generator
    coarse = [one for one in generator.style_layout if one.resolution <= 8 and not one.is_to_rgb]
    rows = torch.cat([generator.synthesis.affine(one.name).weight for one in coarse])
    rows = rows / rows.norm(dim=1, keepdim=True)
    _, axes = torch.linalg.eigh(rows.T @ rows)
    w = tiny_pipeline.sample(range(2048), 1.0).codes[:, 0]
    moved = sorted({one.ws_index for one in coarse})
    for index, one in enumerate(found):
        still = [i for i in range(generator.num_ws) if i not in moved]
        assert one.vector[still].eq(0).all() and one.vector[moved].norm(dim=1).min() > 0
        direction = axes[:, -1 - index]
        row = one.vector[0]
        assert abs(float(F.cosine_similarity(row, direction, dim=0))) > 0.999
        # As far as faces differ along it.
        assert float(row.norm()) == pytest.approx(float((w @ direction).std()), rel=1e-3)


def test_ranges_of_layers(tiny_pipeline: StyleEditPipeline) -> None:
    found = candidates(tiny_pipeline, replace(PCA, components=1))
    moved = {
        one.found["layers"]: [i for i, row in enumerate(one.vector) if row.any()] for one in found
    }
    # A generator of 32 pixels has no fine layers. The last w drives the last toRGB.
    assert moved == {"all": list(range(8)), "coarse": [0, 1, 2], "middle": [3, 4, 5, 6, 7]}


def test_the_list(tiny_pipeline: StyleEditPipeline, tmp_path: Path) -> None:
    pipe, method, steps = tiny_pipeline, get("discovery"), list[Step]()
    edits = method.find_all(pipe, Nothing(), settings=QUICK, on_step=steps.append)
    assert 1 < len(edits) <= 5
    amounts = [edit.origin.training["amount"] for edit in edits]
    assert amounts == sorted(amounts, reverse=True) and amounts[0] > 0
    names = [caption(edit) for edit in edits]
    assert len(set(names)) == len(names) and all(" ↔ " in name for name in names)
    count = len(candidates(pipe, QUICK))
    assert [(step.index, step.total) for step in steps] == [(i + 1, count) for i in range(count)]
    assert all(step.images is not None and step.images.shape == (2, 3, 32, 32) for step in steps)
    vectors = torch.stack([edit.tensors()["vector"].flatten() for edit in edits])
    cosines = F.normalize(vectors, dim=1) @ F.normalize(vectors, dim=1).T
    assert (cosines - torch.eye(len(edits))).abs().max() <= QUICK.duplicate
    # `find` returns the first one, and a search gives the same again.
    first = pipe.find(Nothing(), settings=QUICK)
    assert torch.equal(first.tensors()["vector"], edits[0].tensors()["vector"])
    assert method_for(pipe, Nothing()) is method
    first.save_pretrained(tmp_path / "slider")
    loaded = load_edit(tmp_path / "slider")
    assert loaded.origin.training == json.loads(json.dumps(dict(first.origin.training)))
    assert caption(loaded) == names[0] and names[0] in method.account(loaded.origin)

    def stop(step: Step) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        method.find_all(pipe, Nothing(), settings=QUICK, on_step=stop)


def test_amount_is_what_clip_sees(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    (edit, *_) = get("discovery").find_all(pipe, Nothing(), settings=QUICK)
    faces = pipe.lower(pipe.sample(range(2)), Space.W_PLUS)
    high, low = (
        pipe.encode_image(pipe.synthesize(edit.apply(faces, strength))) for strength in (1.0, -1.0)
    )
    training = edit.origin.training
    one, other = high - low
    assert training["amount"] == pytest.approx(float(one @ other) ** 0.5, abs=1e-3)
    cosine = F.cosine_similarity(one, other, dim=0)
    assert training["consistency"] == pytest.approx(float(cosine), abs=1e-3)


def test_duplicates_are_left_out(tiny_pipeline: StyleEditPipeline) -> None:
    def found(duplicate: float) -> int:
        settings = replace(QUICK, count=100, confidence=2.0, duplicate=duplicate)
        return len(get("discovery").find_all(tiny_pipeline, Nothing(), settings=settings))

    assert (
        found(0.05)
        == 1
        < found(0.9)
        < found(1.1)
        == len(candidates(tiny_pipeline, replace(QUICK, duplicate=1.1)))
    )


def test_what_clip_cannot_name_says_so(tiny_pipeline: StyleEditPipeline) -> None:
    method = get("discovery")
    edits = method.find_all(tiny_pipeline, Nothing(), settings=replace(QUICK, confidence=1.1))
    names = [caption(edit) for edit in edits]
    assert names == [f"unnamed {i}" for i in range(1, len(edits) + 1)]
    assert edits[0].origin.training["confidence"] is None
    assert "no words in the bank for what it does" in method.account(edits[0].origin)


def domain_of(neutral: str, **axes: list[float]) -> Any:
    """A domain whose CLIP knows a few words, each a direction added to a text's embedding."""

    def embed(texts: list[str]) -> Tensor:
        found = [
            torch.tensor([5.0, 0, 0, 0])
            + sum((torch.tensor(a) for word, a in axes.items() if word in text), torch.zeros(4))
            for text in texts
        ]
        return F.normalize(torch.stack(found), dim=1)

    def unknown(text: str) -> list[str]:
        known = {*axes, "a", "*"}
        return [word for word in text.split() if word not in known]

    return SimpleNamespace(neutral=neutral, encode_text=embed, words_without_token=unknown)


def test_names() -> None:
    domain = domain_of(
        "a face", glasses=[0, 1, 0, 0], hair=[0, 0, 0, 0], red=[0, 0, 1, 0], black=[0, 0, -1, 0],
        young=[0, 0, 0, 1], old=[0, 0, 0, -1], an=[0, 0, 0, 0],
    )  # fmt: skip
    bank = Bank(domain)
    named = {
        "no glasses ↔ glasses": [0, 1, 0.1, 0],
        "black hair ↔ red hair": [0, 0.1, 1, 0],
        "young ↔ old": [0, 0, 0, -1],
    }
    for name, change in named.items():
        found, cosine, sign = bank.name(torch.tensor(change, dtype=torch.float32))
        assert (found, sign) == (name, 1) and cosine > 0.9
    # The bank says which end is on the right, and the slider is turned to match it.
    assert bank.name(torch.tensor([0, -1.0, 0, 0]))[::2] == ("no glasses ↔ glasses", -1)
    assert bank.name(torch.tensor([0, 0, -1.0, 0]))[::2] == ("black hair ↔ red hair", -1)
    assert bank.name(torch.tensor([1.0, 0, 0, 0]), confidence=0.5)[0] is None
    # Words that this CLIP does not know name nothing.
    assert all("beard" not in word for pair in bank.pairs for word in pair)
    assert Bank(domain_of("a cup")).name(torch.ones(4)) == (None, 0.0, 1)


def test_things_have_other_names_than_faces() -> None:
    words = {word for group in THINGS + FACES + ANYTHING for word in group}
    axes = {word: [0.0, 0, 0, 0] for entry in words for word in entry.split()}
    for neutral, has, lacks in (
        ("a house", "a red *", "glasses"),
        ("the portrait of a queen", "glasses", "a red *"),
    ):
        entries = {entry for pair in Bank(domain_of(neutral, **axes)).pairs for entry in pair}
        assert {has, "a bright *"} <= entries and lacks not in entries
    own = Bank(domain_of("a house", **axes), (("a tall *", "a flat *"),))
    assert own.pairs == [("a tall *", "a flat *")]


def test_a_slider_turned_around_is_called_so(tiny_pipeline: StyleEditPipeline) -> None:
    """The vector points to the words on the right."""
    settings = replace(QUICK, words=(("no glasses", "glasses"),))
    (edit,) = get("discovery").find_all(tiny_pipeline, Nothing(), settings=settings)
    pipe = tiny_pipeline
    assert caption(edit) == "no glasses ↔ glasses"
    faces = pipe.lower(pipe.sample(range(2)), Space.W_PLUS)
    ends = [pipe.encode_image(pipe.synthesize(edit.apply(faces, s))).mean(0) for s in (-1, 1)]
    text = pipe.encode_text(["a face with glasses", "a face"])
    assert float((ends[1] - ends[0]) @ (text[0] - text[1])) > 0


def test_inside_a_region(parsing: StyleEditPipeline) -> None:
    method = get("discovery")
    settings = replace(QUICK, inside=0.55, count=50)
    found = {
        region: method.find_all(parsing, Nothing(region), settings=settings)
        for region in ("hair", "clothes")
    }
    for region, edits in found.items():
        assert all(edit.origin.training["inside"] >= 0.55 for edit in edits)
        faces = parsing.lower(parsing.sample(range(2)), Space.W_PLUS)
        low, high = (parsing.synthesize(edits[0].apply(faces, s)) for s in (-1.0, 1.0))
        squared = (high - low).square().sum((1, 3))  # by row
        share = squared[:, :16].sum(1) / squared.sum(1)
        expected = float((share if region == "hair" else 1 - share).mean())
        assert edits[0].origin.training["inside"] == pytest.approx(expected, abs=1e-3)
    names = [{e.origin.training["amount"] for e in edits} for edits in found.values()]
    assert not names[0] & names[1]  # no change is in both
    with pytest.raises(MethodError, match=r"None of .* has 100% of its change") as caught:
        parsing.find(Nothing("hair"), method="discovery", settings=replace(QUICK, inside=1.0))
    assert caught.value.got == "hair" and "inside=" in caught.value.remedy


def test_a_region_needs_a_parser(
    tiny_pipeline: StyleEditPipeline, parsing: StyleEditPipeline
) -> None:
    with pytest.raises(MethodError, match="no parser") as caught:
        tiny_pipeline.find(Nothing("hair"), method="discovery")
    assert caught.value.got == "hair" and "train_parser" in caught.value.remedy
    with pytest.raises(ValueError, match="Unknown region 'tail'"):
        parsing.find(Nothing("tail"), method="discovery")


def test_sliders_of_one_face(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    face = pipe.lower(pipe.sample(77), Space.W_PLUS)
    in_w = pipe.find(Nothing(), face, settings=QUICK)
    styles = pipe.lower(face, Space.S)
    in_s = pipe.find(Nothing(), styles, settings=QUICK)
    assert isinstance(in_w, Direction) and isinstance(in_s, Direction)
    assert (in_w.space, in_s.space) == (Space.W_PLUS, Space.S)
    assert in_w.origin.training["consistency"] == 1.0
    pictures = [pipe.synthesize(edit.apply(start, 1.0)) for edit, start in
                ((in_w, face), (in_s, styles))]  # fmt: skip
    assert torch.allclose(*pictures, atol=1e-3)
    other = Latents(Space.W_PLUS, face.codes + 1)
    assert pipe(latents=other, edits=[(in_w, -1.0)]).images


def test_houses(house_pipeline: StyleEditPipeline) -> None:
    words = (("a curly *", "an old *"), ("glasses", "a mohawk"))
    settings = replace(QUICK, layers=("all", "fine"), words=words)
    edits = get("discovery").find_all(house_pipeline, Nothing(), settings=settings)
    assert {caption(edit) for edit in edits} <= {"curly ↔ old", "glasses ↔ a mohawk"}
    assert house_pipeline(seed=1, edits=[(edits[0], 1.0)]).images[0].size == (64, 48)
    layers = {one.found["layers"] for one in candidates(house_pipeline, settings)}
    assert layers == {"all", "fine"}


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"components": 0}, {"faces": 0}, {"deviations": 0.0}, {"source": "ica"},
     {"layers": ()}, {"layers": ("all", "deep")}],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Got .*expected"):
        replace(DEFAULT, **wrong)


def test_what_the_page_and_the_shell_read() -> None:
    assert set(Discovery.presets) == {"default", "ganspace", "sefa"}
    assert PCA.source == "pca" and SEFA.source == "sefa" and DEFAULT.source == "both"
