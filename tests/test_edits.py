"""Every kind of edit keeps its contract."""

import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import stylegan_hub as hub
from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits import base
from stylegan_hub.edits.base import Edit, Origin, Strength, kinds, load_edit
from stylegan_hub.edits.combined import Combined
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import InstantEdit
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.limited import Limited, Limits
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space

BASE = BaseModel("toy", "0123456789abcdef", num_ws=3, w_dim=4, num_styles=10, resolution=8)

# One of every kind, for the contract tests. A new kind adds its line.
EXAMPLES: dict[str, Edit] = {
    "direction": Direction(
        torch.linspace(-1, 1, 12).reshape(3, 4),
        "w_plus",
        BASE,
        Strength(0.8, -1.0, 3.0),
        Origin("a hat", "a face", {"method": "by hand", "steps": 3}),
    ),
    "latent_mapper": LatentMapper(
        {"coarse": (0, 2), "fine": (2, 3)}, "w_plus", BASE, strength=Strength(1.2, -1.0, 2.0)
    ),
    "instant": InstantEdit(
        torch.linspace(-1, 1, 12).reshape(3, 4), torch.linspace(-0.1, 0.2, 4), 0.8, BASE
    ),
}
EXAMPLES["limited"] = Limited(
    EXAMPLES["direction"],
    Limits(torch.zeros(4), torch.eye(4)[:3].half(), -torch.ones(3), torch.ones(3)),
)
EXAMPLES["combined"] = Combined(
    [(EXAMPLES["direction"], 0.5), (EXAMPLES["latent_mapper"], -1.5)], Strength(0.7, -1.0, 2.0)
)


def codes(edit: Edit, count: int, dtype: torch.dtype = torch.float32) -> Latents:
    base = edit.base_model
    shape = (base.num_styles,) if edit.space is Space.S else (base.num_ws, base.w_dim)
    random = torch.Generator().manual_seed(0)
    return Latents(edit.space, torch.randn(count, *shape, generator=random).to(dtype))


# The contract of all kinds


def test_every_kind_is_tested() -> None:
    assert set(kinds()) == set(EXAMPLES)


@pytest.fixture(params=sorted(EXAMPLES))
def edit(request: pytest.FixtureRequest) -> Edit:
    return EXAMPLES[request.param]


def test_strength_zero_is_the_identity(edit: Edit) -> None:
    latents = codes(edit, 2)
    assert torch.equal(edit.apply(latents, 0).codes, latents.codes)


def test_default_strength(edit: Edit) -> None:
    latents = codes(edit, 2)
    assert torch.equal(edit.apply(latents).codes, edit.apply(latents, edit.strength.default).codes)
    assert not torch.equal(edit.apply(latents).codes, latents.codes)


def test_strength_is_linear_and_may_be_negative(edit: Edit) -> None:
    latents = codes(edit, 2)
    step = edit.apply(latents, 1.0).codes - latents.codes
    assert torch.allclose(edit.apply(latents, -1.5).codes, latents.codes - 1.5 * step, atol=1e-5)


def test_batch_is_each_one_alone(edit: Edit) -> None:
    latents = codes(edit, 3)
    alone = Latents.cat([edit.apply(one, 0.7) for one in latents])
    assert torch.allclose(edit.apply(latents, 0.7).codes, alone.codes, atol=1e-6)
    assert len(edit.apply(codes(edit, 0))) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_follows_the_latents(edit: Edit, dtype: torch.dtype) -> None:
    assert edit.apply(codes(edit, 2, dtype)).codes.dtype == dtype


def test_latents_given_stay_as_they_are(edit: Edit) -> None:
    latents = codes(edit, 2)
    before = latents.codes.clone()
    edit.apply(latents, 1.0).codes.add_(1)
    edit.apply(latents, 1.0)
    assert torch.equal(latents.codes, before)


def test_saved_and_loaded(edit: Edit, tmp_path: Path) -> None:
    folder = edit.save_pretrained(tmp_path / "edit")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    loaded = load_edit(folder)
    assert type(loaded) is type(edit)
    for name in ("space", "base_model", "strength", "origin"):
        assert getattr(loaded, name) == getattr(edit, name)
    latents = codes(edit, 2)
    assert torch.equal(loaded.apply(latents, 0.3).codes, edit.apply(latents, 0.3).codes)
    assert json.loads((folder / "config.json").read_text())["kind"] == edit.kind


def test_saving_is_all_or_nothing(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        edit.save_pretrained(tmp_path / "edit")
    assert os.listdir(tmp_path) == []


def test_wrong_space_and_size(edit: Edit) -> None:
    other = Latents("z", torch.zeros(1, 4))
    with pytest.raises(MismatchError, match=f"works in {edit.space}, got latents in z. Lower"):
        edit.apply(other)
    shape = list(codes(edit, 1).codes.shape)
    shape[-1] += 1
    with pytest.raises(MismatchError, match=r"made for 'toy' .*Use latents of that generator"):
        edit.apply(Latents(edit.space, torch.zeros(shape)))


def test_of_another_generator(edit: Edit) -> None:
    edit.check_fits(BASE)
    other = BaseModel("car", "fedcba9876543210", num_ws=3, w_dim=4, num_styles=10, resolution=8)
    with pytest.raises(MismatchError, match=r"0123456789abcdef.*fedcba9876543210.*Load it with"):
        edit.check_fits(other)


# Folders that are no edit


def test_unknown_kind(tmp_path: Path) -> None:
    folder = EXAMPLES["direction"].save_pretrained(tmp_path / "edit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "essense"}))
    with pytest.raises(ArtifactError, match=r"Unknown kind 'essense' .*: combined, direction, "):
        load_edit(folder)


def test_unknown_name() -> None:
    with pytest.raises(NotFoundError, match="Found nothing under 'no such edit'"):
        load_edit("no such edit")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_model", {"fingerprint": "ab"}),
        ("space", "x"),
        ("space", "z"),
        ("strength", {"default": 9.0, "min": 0.0, "max": 1.0}),
    ],
)
def test_unsound_config(tmp_path: Path, key: str, value: object) -> None:
    folder = EXAMPLES["direction"].save_pretrained(tmp_path / "edit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ArtifactError, match="is not a valid direction: "):
        load_edit(folder)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (1, 3, 4)])
def test_direction_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"in w_plus of this generator has the shape \[3, 4\]"):
        Direction(torch.zeros(shape), "w_plus", BASE)
    with pytest.raises(ValueError, match=r"in s of this generator has the shape \[10\]"):
        Direction(torch.zeros(shape), "s", BASE)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    unsound = Direction(torch.full((10,), torch.nan), "s", BASE)
    with pytest.raises(ValueError, match=r"'vector' .* not finite\. Nothing was saved"):
        unsound.save_pretrained(tmp_path / "edit")
    assert os.listdir(tmp_path) == []
    folder = EXAMPLES["direction"].save_pretrained(tmp_path / "edit")
    tensors = load_file(folder / "model.safetensors")
    tensors["vector"][0, 0] = torch.inf
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["tensors_sha256"]  # as in files of version 0.1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="'vector' holds numbers that are not finite"):
        load_edit(folder)


# Kinds of other packages


class Wave(Edit):
    """A user's own kind: a displacement by the sine of the codes."""

    kind = "wave"

    def __init__(self, size: float, *common: object) -> None:
        super().__init__(*common)  # type: ignore[arg-type]
        self.size = size

    def delta(self, codes: torch.Tensor) -> torch.Tensor:
        return self.size * torch.sin(codes)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"size": torch.tensor(self.size)}

    @classmethod
    def from_parts(cls, tensors, config, space, base_model, strength, origin):  # type: ignore[no-untyped-def]
        return cls(float(tensors["size"]), space, base_model, strength, origin)


@pytest.fixture
def kinds_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is unknown to other tests."""
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    monkeypatch.setattr(names, "_KINDS", dict(names._KINDS))


@pytest.mark.usefixtures("kinds_are_left")
def test_a_kind_from_outside(tmp_path: Path) -> None:
    folder = Wave(0.5, "w_plus", BASE).save_pretrained(tmp_path / "wave")
    with pytest.raises(ArtifactError, match=r"saved by the package 'test_edits'; install it"):
        load_edit(folder)
    assert hub.register(Wave) is Wave
    loaded = load_edit(folder)
    latents = codes(loaded, 2)
    assert torch.allclose(
        loaded.apply(latents, 2.0).codes, latents.codes + torch.sin(latents.codes), atol=1e-6
    )
    assert isinstance(Wave.from_pretrained(folder), Wave)
    assert names.find_kind("wave") is not None


@pytest.mark.usefixtures("kinds_are_left")
def test_a_kind_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("wave", "test_edits:Wave", "stylegan_hub.edits")
    found = {"stylegan_hub.edits": [entry]}
    monkeypatch.setattr(base, "entry_points", lambda group: found.get(group, []))
    folder = Wave(0.5, "w_plus", BASE).save_pretrained(tmp_path / "wave")
    assert type(load_edit(folder)).kind == "wave"


@pytest.mark.usefixtures("kinds_are_left")
def test_two_classes_of_one_kind() -> None:
    other = type("Other", (Wave,), {"kind": "direction"})
    with pytest.raises(ValueError, match=r"The kind 'direction' belongs to stylegan_hub\."):
        hub.register(other)
    with pytest.raises(ValueError, match="expected a name of letters"):
        hub.register(type("Nameless", (Wave,), {"kind": "a b"}))
    with pytest.raises(TypeError, match="expected a subclass of Edit or of Method"):
        hub.register(int)


# The content of an edit


def test_mixed_files_of_two_edits_are_refused(edit: Edit, tmp_path: Path) -> None:
    folder = edit.save_pretrained(tmp_path / "edit")
    tensors = {name: 2 * tensor.float() for name, tensor in edit.tensors().items()}
    tensors = {name: t.to(edit.tensors()[name].dtype) for name, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"mixes two artifacts: config\.json belongs to"):
        load_edit(folder)


def test_the_same_edit_is_the_same_bytes(edit: Edit, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        folder = load_edit(edit.save_pretrained(tmp_path / name)).save_pretrained(tmp_path / name)
        files.append([(folder / file).read_bytes() for file in sorted(os.listdir(folder))])
    assert files[0] == files[1]


def test_the_digest_is_of_what_displaces(edit: Edit) -> None:
    same = type(edit).from_parts(
        edit.tensors(), edit.config(), edit.space, BASE, Strength(), Origin("other words")
    )
    assert same.digest == edit.digest
    assert len({one.digest for one in EXAMPLES.values()}) == len(EXAMPLES)
