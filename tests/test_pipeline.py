"""The pipeline samples, lowers, edits, saves and loads, and explains bad input."""

import copy
import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stylegan_hub import domain
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import Optimization, Settings
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio
from stylegan_hub.text_to_face import TextToFace


def direction(pipe: StyleEditPipeline, space: str, seed: int) -> Direction:
    base = pipe.base_model
    shape = (base.num_styles,) if space == "s" else (base.num_ws, base.w_dim)
    vector = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Direction(vector, space, base)


@pytest.fixture(scope="module")
def recognizing_pipeline(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """`tiny_pipeline` and a recognizer of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recognizer = Recognizer(
            units=(1, 1), widths=(8, 16), input_size=32, embedding_dim=8, crop=None, reduction=4
        )
    pipe = tiny_pipeline
    return StyleEditPipeline(
        pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor, recognizer
    )


@pytest.fixture(scope="module")
def recognizing_folder(
    recognizing_pipeline: StyleEditPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "recognizing"
    recognizing_pipeline.save_pretrained(folder)
    return folder


# Sampling


def test_same_seed_is_the_same_person(tiny_pipeline: StyleEditPipeline) -> None:
    alone = tiny_pipeline.sample(7)
    among_others = tiny_pipeline.sample([3, 7, 5])[1]
    assert alone.space is Space.W_PLUS
    assert alone.codes.shape == (1, 8, 16)
    assert torch.allclose(alone.codes, among_others.codes, atol=1e-6)
    assert not torch.allclose(alone.codes, tiny_pipeline.sample(8).codes)


def test_sampling_leaves_the_global_random_state_alone(tiny_pipeline: StyleEditPipeline) -> None:
    before = torch.get_rng_state()
    tiny_pipeline(seed=7)
    assert torch.equal(before, torch.get_rng_state())


def test_truncation_moves_towards_the_mean(tiny_pipeline: StyleEditPipeline) -> None:
    mean = tiny_pipeline.mean_latent().codes
    full = tiny_pipeline.sample(7, truncation_psi=1.0).codes
    half = tiny_pipeline.sample(7, truncation_psi=0.5).codes
    assert torch.allclose(half, (full + mean) / 2, atol=1e-6)
    assert torch.allclose(tiny_pipeline.sample(7, truncation_psi=0.0).codes, mean)


def test_truncation_cutoff_spares_later_layers(tiny_pipeline: StyleEditPipeline) -> None:
    full = tiny_pipeline.sample(7, truncation_psi=1.0).codes
    cut = tiny_pipeline.sample(7, truncation_psi=0.5, truncation_cutoff=3).codes
    assert not torch.allclose(cut[:, :3], full[:, :3])
    assert torch.equal(cut[:, 3:], full[:, 3:])


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.5, "7"])
def test_seed_out_of_range(tiny_pipeline: StyleEditPipeline, seed: object) -> None:
    with pytest.raises(ValueError, match=r"Got seed .*0 to 2\*\*63"):
        tiny_pipeline.sample([seed])  # type: ignore[list-item]


def test_largest_seed(tiny_pipeline: StyleEditPipeline) -> None:
    assert len(tiny_pipeline.sample([0, 2**63 - 1])) == 2


# Lowering and drawing


def test_every_space_draws_the_same_picture(tiny_pipeline: StyleEditPipeline) -> None:
    z = Latents("z", torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
    lowered = [tiny_pipeline.lower(z, space) for space in Space]
    assert [latents.space for latents in lowered] == list(Space)
    assert [latents.codes.ndim for latents in lowered] == [2, 2, 3, 2]
    pictures = [tiny_pipeline.synthesize(latents) for latents in lowered]
    for picture in pictures[1:]:
        assert torch.allclose(picture, pictures[0], atol=1e-5)


def test_lowering_does_not_go_back(tiny_pipeline: StyleEditPipeline) -> None:
    s = tiny_pipeline.lower(tiny_pipeline.sample(7), "s")
    with pytest.raises(ValueError, match=r"Got latents in s, asked for w_plus.*inversion"):
        tiny_pipeline.lower(s, "w_plus")
    with pytest.raises(ValueError, match=r"Unknown latent space 'x'"):
        tiny_pipeline.lower(s, "x")


@pytest.mark.parametrize(
    ("space", "shape", "expected"),
    [("z", (1, 8), r"\[n, 16\]"), ("w_plus", (2, 7, 16), r"\[n, 8, 16\]"), ("s", (1, 5), r"\[n, ")],
)
def test_latents_of_another_size(
    tiny_pipeline: StyleEditPipeline, space: str, shape: tuple[int, ...], expected: str
) -> None:
    latents = Latents(space, torch.zeros(shape))
    with pytest.raises(MismatchError, match=f"this generator takes {expected}"):
        tiny_pipeline.synthesize(latents)
    with pytest.raises(MismatchError, match="They belong to another generator"):
        tiny_pipeline(latents=latents)


def test_synthesis_is_differentiable(tiny_pipeline: StyleEditPipeline) -> None:
    codes = tiny_pipeline.sample(7).codes.requires_grad_()
    embedding = tiny_pipeline.encode_image(tiny_pipeline.synthesize(Latents("w_plus", codes)))
    embedding.sum().backward()
    assert codes.grad is not None and codes.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tiny_pipeline.generator.parameters())


# Editing


def test_order_of_edits_does_not_matter(tiny_pipeline: StyleEditPipeline) -> None:
    edits = [
        (direction(tiny_pipeline, "w_plus", 0), 0.7),
        (direction(tiny_pipeline, "s", 1), -0.3),
        (direction(tiny_pipeline, "w_plus", 2), 0.2),
        (direction(tiny_pipeline, "s", 3), 0.4),
    ]
    start = tiny_pipeline.sample([1, 2])
    forth = tiny_pipeline.apply(start, edits)
    back = tiny_pipeline.apply(start, edits[::-1])
    assert forth.space is back.space is Space.S
    assert torch.allclose(forth.codes, back.codes, atol=1e-5)

    w_plus = tiny_pipeline.apply(start, [edits[0], edits[2]])
    assert w_plus.space is Space.W_PLUS
    expected = start.codes + 0.7 * edits[0][0].vector + 0.2 * edits[2][0].vector
    assert torch.allclose(w_plus.codes, expected, atol=1e-6)
    added = tiny_pipeline.lower(w_plus, "s").codes - 0.3 * edits[1][0].vector
    assert torch.allclose(forth.codes, added + 0.4 * edits[3][0].vector, atol=1e-5)


def test_no_edits_and_strength_zero_change_nothing(tiny_pipeline: StyleEditPipeline) -> None:
    start = tiny_pipeline.sample(7)
    edit = direction(tiny_pipeline, "w_plus", 0)
    assert tiny_pipeline.apply(start, []) is start
    assert torch.equal(tiny_pipeline.apply(start, [(edit, 0.0)]).codes, start.codes)


def test_edit_of_another_generator_is_refused(
    tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline
) -> None:
    stranger = direction(other_pipeline, "w_plus", 0)
    own, other = tiny_pipeline.base_model.fingerprint, other_pipeline.base_model.fingerprint
    assert own != other
    with pytest.raises(MismatchError, match=f"fingerprint {other}.*fingerprint {own}"):
        tiny_pipeline(seed=7, edits=[(stranger, 1.0)])


def test_edit_in_s_takes_no_latents_in_w_plus_by_itself(tiny_pipeline: StyleEditPipeline) -> None:
    edit = direction(tiny_pipeline, "w_plus", 0)
    s = tiny_pipeline.lower(tiny_pipeline.sample(7), "s")
    with pytest.raises(ValueError, match="never back"):
        tiny_pipeline.apply(s, [(edit, 1.0)])


# The call


def test_call(tiny_pipeline: StyleEditPipeline) -> None:
    out = tiny_pipeline(seed=[1, 2], edits=[(direction(tiny_pipeline, "s", 0), 1.0)])
    assert [picture.size for picture in out.images] == [(32, 32)] * 2
    assert out.latents.space is Space.S
    again = tiny_pipeline(latents=out.latents)
    assert pixels(again.images) == pixels(out.images)
    assert pixels(tiny_pipeline().images) == pixels(tiny_pipeline(seed=0).images)


def test_call_with_a_prompt(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Optimization.presets, "default", Settings(steps=2))
    plain = tiny_pipeline(seed=7)
    worded = tiny_pipeline(seed=7, prompt="a face with a hat")
    found = tiny_pipeline.find("a face with a hat", plain.latents, method="optimization")
    assert not torch.equal(worded.latents.codes, plain.latents.codes)
    assert torch.allclose(worded.latents.codes, found.apply(plain.latents).codes, atol=1e-5)


def test_seed_and_latents(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match="both seed and latents"):
        tiny_pipeline(seed=1, latents=tiny_pipeline.sample(2))


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_empty_prompt(tiny_pipeline: StyleEditPipeline, prompt: str) -> None:
    with pytest.raises(ValueError, match=r"Got no words .* write some"):
        tiny_pipeline(seed=7, prompt=prompt)
    with pytest.raises(ValueError, match=r"Got no words .* write some"):
        tiny_pipeline.find(prompt, tiny_pipeline.sample(7))


def test_endless_prompt_is_cut_with_a_warning(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.warns(UserWarning, match="only the first 22 tokens count"):
        endless = tiny_pipeline.encode_text("hat " * 10_000)
    assert torch.allclose(endless, tiny_pipeline.encode_text("hat " * 22))


# Files


def test_saved_and_loaded(tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path) -> None:
    loaded = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    assert loaded.base_model.fingerprint == tiny_pipeline.base_model.fingerprint
    assert loaded.base_model.id == "./tiny"
    assert pixels(loaded(seed=7).images) == pixels(tiny_pipeline(seed=7).images)
    words = ["a face with a hat", "Zebra!"]
    assert torch.allclose(loaded.encode_text(words), tiny_pipeline.encode_text(words), atol=1e-6)
    pictures = tiny_pipeline.synthesize(tiny_pipeline.sample([1, 2]))
    seen = loaded.encode_image(pictures)
    assert torch.allclose(seen, tiny_pipeline.encode_image(pictures), atol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.generator.parameters())


def test_stored_in_half_precision(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    half = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    loaded = StyleEditPipeline.from_pretrained(tmp_path / "half")
    assert loaded.generator.dtype == loaded.clip.dtype == torch.float32
    assert loaded.base_model.fingerprint == tiny_pipeline.base_model.fingerprint
    sizes = [
        sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        for folder in (tmp_path / "half", tiny_pipeline_folder)
    ]
    assert sizes[0] < 0.6 * sizes[1]
    people = tiny_pipeline.sample([1, 2])
    assert torch.allclose(loaded.synthesize(people), tiny_pipeline.synthesize(people), atol=0.02)


def test_unknown_pipeline() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'portraits'"):
        StyleEditPipeline.from_pretrained("potraits")


@pytest.mark.parametrize("component", ["generator", "clip", "tokenizer", "image_processor"])
def test_missing_component(tiny_pipeline_folder: Path, tmp_path: Path, component: str) -> None:
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "broken")
    shutil.rmtree(folder / component)
    with pytest.raises(ArtifactError, match=f"lacks the folder '{component}'"):
        StyleEditPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    "file",
    [
        "generator/diffusion_pytorch_model.safetensors",
        "clip/model.safetensors",
        "generator/config.json",
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_file(tiny_pipeline_folder: Path, tmp_path: Path, file: str, damage: str) -> None:
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "broken")
    whole = (folder / file).read_bytes()
    if damage == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"cannot be loaded: .*Copy or download it again"):
        StyleEditPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("clip"), "names no 'clip'; a pipeline needs generator, clip"),
        (
            lambda index: index.update(generator=["os", "system"]),
            r"says \['os', 'system'\] for 'generator'.*No other class is imported",
        ),
        (
            lambda index: index.update(oracle=["stylegan_hub.models.oracle", "Oracle"]),
            "unknown components oracle.*Upgrade",
        ),
    ],
)
def test_index_names_other_parts(
    tiny_pipeline_folder: Path,
    tmp_path: Path,
    change: Callable[[dict[str, object]], object],
    message: str,
) -> None:
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "broken")
    index = json.loads((folder / "model_index.json").read_text())
    change(index)
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match=message):
        StyleEditPipeline.from_pretrained(folder)


# The recognizer, which a pipeline may have


def test_recognizer_is_saved_and_loaded(
    recognizing_pipeline: StyleEditPipeline, recognizing_folder: Path
) -> None:
    loaded = StyleEditPipeline.from_pretrained(recognizing_folder)
    pictures = recognizing_pipeline.synthesize(recognizing_pipeline.sample([1, 2]))
    embeddings = recognizing_pipeline.recognizer(pictures)
    assert torch.allclose(loaded.recognizer(pictures), embeddings, atol=1e-6)
    assert not loaded.recognizer.training
    assert not any(parameter.requires_grad for parameter in loaded.recognizer.parameters())
    half = StyleEditPipeline.from_pretrained(recognizing_folder, dtype=torch.float16)
    assert half.recognizer.dtype == torch.float16
    assert half.to(torch.float32).recognizer.dtype == torch.float32
    assert torch.allclose(half.recognizer(pictures), embeddings, atol=0.01)


def test_pipeline_without_a_recognizer(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    index = json.loads((tiny_pipeline_folder / "model_index.json").read_text())
    assert index["recognizer"] == [None, None]
    assert StyleEditPipeline.from_pretrained(tiny_pipeline_folder).recognizer is None
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "older")
    del index["recognizer"]  # as saved before there were recognizers
    (folder / "model_index.json").write_text(json.dumps(index))
    assert StyleEditPipeline.from_pretrained(folder).recognizer is None


@pytest.mark.parametrize(
    "entry", [["os", "system"], ["stylegan_hub.models.encoder", "Encoder"], None, [None], []]
)
def test_recognizer_of_another_class(
    recognizing_folder: Path, tmp_path: Path, entry: object
) -> None:
    folder = shutil.copytree(recognizing_folder, tmp_path / "broken")
    index = json.loads((folder / "model_index.json").read_text())
    index["recognizer"] = entry
    (folder / "model_index.json").write_text(json.dumps(index))
    expected = r"for 'recognizer'; expected \['stylegan_hub.models.recognizer', 'Recognizer'\]"
    with pytest.raises(ArtifactError, match=expected):
        StyleEditPipeline.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["lacks the folder 'recognizer'", "cannot be loaded"])
def test_damaged_recognizer(recognizing_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(recognizing_folder, tmp_path / "broken")
    if damage == "cannot be loaded":
        weights = folder / "recognizer" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        shutil.rmtree(folder / "recognizer")
    with pytest.raises(ArtifactError, match=damage):
        StyleEditPipeline.from_pretrained(folder)


def test_search_that_keeps_the_person(recognizing_pipeline: StyleEditPipeline) -> None:
    pipe = recognizing_pipeline
    person = pipe.sample(7)
    before = pipe.synthesize(person)

    def similarity(id_lambda: float) -> float:
        settings = Settings(steps=8, id_lambda=id_lambda)
        found = pipe.find("a face with a hat", person, method="optimization", settings=settings)
        after = pipe.synthesize(found.apply(person))
        return float(identity_similarity(pipe.recognizer, before, after))

    free, kept = similarity(0.0), similarity(100.0)
    assert kept > free + 0.3 * (1 - free)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_index_is_no_object(tiny_pipeline_folder: Path, tmp_path: Path, text: str) -> None:
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "broken")
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ArtifactError, match="is not a JSON object"):
        StyleEditPipeline.from_pretrained(folder)


def test_a_folder_of_an_edit_is_no_pipeline(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    direction(tiny_pipeline, "s", 0).save_pretrained(tmp_path / "edit")
    with pytest.raises(ArtifactError, match="to hold the files of: pipeline; got: edit"):
        StyleEditPipeline.from_pretrained(tmp_path / "edit")


def pixels(pictures: list[Image.Image]) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


# Seeds


@pytest.mark.parametrize(
    "seeds", [7, np.int64(7), torch.tensor(7), [7], (7,), range(7, 8), np.arange(7, 8)]
)
def test_seeds_of_any_integer_type(tiny_pipeline: StyleEditPipeline, seeds: object) -> None:
    expected = tiny_pipeline.sample(7).codes
    assert torch.equal(tiny_pipeline.sample(seeds).codes, expected)  # type: ignore[arg-type]
    assert len(tiny_pipeline(seed=seeds).images) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "seeds", [[], range(0), np.arange(0), 7.5, np.arange(2.0), "7", None, True, -1, [2**63]]
)
def test_seeds_that_are_none(tiny_pipeline: StyleEditPipeline, seeds: object) -> None:
    with pytest.raises(ValueError, match=r"Got (no seed|seed .*); .*integers from 0 to 2\*\*63"):
        tiny_pipeline.sample(seeds)  # type: ignore[arg-type]


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_searches_in_a_pipeline_of_half_precision(
    tiny_pipeline_folder: Path, dtype: torch.dtype
) -> None:
    full = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    half = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, dtype=dtype)
    assert half.dtype is dtype and half.base_model == full.base_model
    assert half.clip_model == full.clip_model
    settings = Settings(steps=3, shared_steps=2, shared_faces=2)
    found = half.find("a face with a hat", half.sample(7), settings=settings)
    assert found.vector.dtype is torch.float32 and found.vector.isfinite().all()
    found.check_fits(full.base_model)
    pictures = half(seed=7, edits=[(found, 1.0)])
    assert pictures.latents.codes.isfinite().all()
    gradient = half.find("a face with a hat", method="gradient")
    assert gradient.vector.isfinite().all() and gradient.length > 0


def test_a_pipeline_of_half_precision_is_copied_once(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, dtype=torch.bfloat16)
    copied: list[object] = []

    def counted(thing: object) -> object:
        copied.append(thing)
        return copy.deepcopy(thing)

    monkeypatch.setattr(domain, "copy", SimpleNamespace(deepcopy=counted))
    settings = Settings(steps=1, shared_steps=1, shared_faces=1)
    request = Words("a face with a hat")
    Studio(half).search(Session(7), request, "optimization", settings=settings).result()
    assert copied == [half.generator, half.clip]
    found = half.find("a face with a hat", half.sample(7), method="optimization", settings=settings)
    assert len(copied) == 2
    found.check_fits(half.base_model)
    first, again = half.in_full_precision(), half.in_full_precision()
    assert first.generator is again.generator and first.clip_model == half.clip_model
    # A component that is added later belongs to it too; the others stay as they were.
    half.text_to_face = TextToFace.for_pipeline(half)
    assert half.in_full_precision().text_to_face is half.text_to_face


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pipeline_that_was_at_work_can_be_copied(
    tiny_pipeline_folder: Path, dtype: torch.dtype
) -> None:
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, dtype=dtype)
    pipe.text_to_face = TextToFace.for_pipeline(pipe)
    settings = Settings(steps=1, shared_steps=1, shared_faces=1)
    request = Words("a face with a hat")
    studio = Studio(pipe)
    with studio.search(Session(7), request, "optimization", settings=settings) as search:
        while_it_searches = copy.deepcopy(pipe)
        (found,) = search.result()
    studio.draw(Session(7).with_edit(found, 1.0))

    def picture(of: StyleEditPipeline) -> np.ndarray:
        return np.asarray(of(seed=7, edits=[(found, 1.0)]).images[0], dtype=int)

    before = picture(pipe)
    for copied in (while_it_searches, copy.deepcopy(pipe)):
        assert (copied.base_model, copied.clip_model) == (pipe.base_model, pipe.clip_model)
        # Weights in another memory layout may be added up in another order.
        assert abs(picture(copied) - before).max() <= 1
        again = copied.find(request.text, method="optimization", settings=settings)
        again.check_fits(pipe.base_model)
        with torch.no_grad():
            copied.generator.mapping.w_avg.add_(1.0)  # belongs only to the copy
        assert copied.base_model != pipe.base_model
    assert (picture(pipe) == before).all()


def test_the_copy_in_full_precision_follows_the_weights(tiny_pipeline_folder: Path) -> None:
    half = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, dtype=torch.bfloat16)
    before = weakref.ref(half.in_full_precision().generator)
    with torch.no_grad():
        half.generator.mapping.w_avg.add_(1.0)
    after = half.in_full_precision()
    assert after.generator.mapping.w_avg.equal(half.generator.mapping.w_avg.float())
    assert after.base_model == half.base_model
    gc.collect()
    assert before() is None
    half.register_modules(generator=copy.deepcopy(half.generator))
    assert half.in_full_precision().generator is not after.generator
    kept = weakref.ref(half.in_full_precision().generator)
    assert half.to(torch.float32).in_full_precision() is half
    gc.collect()
    assert kept() is None


def test_the_fingerprint_is_of_the_weights_as_loaded(tiny_pipeline_folder: Path) -> None:
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    fingerprint = pipe.generator.fingerprint()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert pipe.to(dtype).base_model.fingerprint == fingerprint
    assert pipe.generator.fingerprint() == fingerprint
    with torch.no_grad():
        pipe.generator.mapping.w_avg.add_(1.0)
    assert pipe.generator.fingerprint() != fingerprint
    assert pipe.base_model.fingerprint == pipe.generator.fingerprint()


def test_a_file_in_bfloat16_is_another_generator(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    fingerprint = pipe.base_model.fingerprint
    pipe.to(torch.bfloat16).save_pretrained(tmp_path / "stored")
    stored = StyleEditPipeline.from_pretrained(tmp_path / "stored")
    assert stored.base_model.fingerprint != fingerprint


@pytest.mark.parametrize("part", ["clip", "generator"])
def test_a_pipeline_without_some_weights_is_refused(
    tiny_pipeline_folder: Path, tmp_path: Path, part: str
) -> None:
    """The libraries that load the parts would fill what is missing with random numbers."""
    folder = tmp_path / "pipe"
    shutil.copytree(tiny_pipeline_folder, folder)
    (path,) = (folder / part).glob("*.safetensors")
    whole = load_file(path)
    *names, last = sorted(whole)
    save_file({name: whole[name] for name in names}, path, {"format": "pt"})
    said = rf"{part} lacks 1 of the tensors that its config describes \({last}\)"
    with pytest.raises(ArtifactError, match=said) as caught:
        StyleEditPipeline.from_pretrained(folder)
    assert caught.value.got == (last,) and "download it again" in caught.value.remedy
    save_file(whole | {last: torch.zeros(3, 1)}, path, {"format": "pt"})
    with pytest.raises(
        ArtifactError, match=rf"{part} has tensors of other shapes \({last} is \[3, 1\]"
    ):
        StyleEditPipeline.from_pretrained(folder)
