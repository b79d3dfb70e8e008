"""A latent knows its space, and nothing but its own file can be read back as one."""

import itertools
import os

import pytest
import torch

from stylegan_hub.artifacts import write_tensors
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space

CODES = {
    Space.Z: torch.randn(3, 8),
    Space.W: torch.randn(3, 8),
    Space.W_PLUS: torch.randn(3, 4, 8),
    Space.S: torch.randn(3, 20),
}


def test_spaces_are_ordered_by_lowering() -> None:
    for earlier, later in itertools.combinations(Space, 2):
        assert earlier < later and earlier <= later and later > earlier and later >= earlier
        assert not later < earlier and not earlier >= later
    assert sorted([Space.S, Space.Z, Space.W_PLUS, Space.W]) == list(Space)
    assert Space("w_plus") == "w_plus" and f"{Space.W_PLUS}" == "w_plus"


@pytest.mark.parametrize("space", Space)
def test_space_by_name_or_member(space: Space) -> None:
    latents = Latents(space.value, CODES[space])
    assert latents.space is space and len(latents) == 3


@pytest.mark.parametrize(
    ("space", "shape", "message"),
    [
        ("w+", (1, 8), r"Unknown latent space 'w\+'; the spaces are z, w, w_plus, s"),
        (
            "w_plus",
            (4, 8),
            r"w_plus have the shape \[n, num_ws, w_dim\]; got \[4, 8\]. Add the batch",
        ),
        ("w", (1, 4, 8), r"w have the shape \[n, w_dim\]; got \[1, 4, 8\]. This shape fits w_plus"),
        ("s", (1, 2, 3, 4), r"s have the shape \[n, num_styles\].*Reshape"),
    ],
)
def test_wrong_space_or_shape(space: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Latents(space, torch.zeros(shape))


def test_codes_are_floating_point() -> None:
    with pytest.raises(TypeError, match=r"floating-point tensor; got a torch\.int64 tensor"):
        Latents("w", torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match="got list"):
        Latents("w", [[0.0]])  # type: ignore[arg-type]


def test_indexing_keeps_the_batch() -> None:
    latents = Latents("w_plus", CODES[Space.W_PLUS])
    assert torch.equal(latents[1].codes, latents.codes[1:2])
    assert torch.equal(latents[-1].codes, latents.codes[2:])
    assert torch.equal(latents[:2].codes, latents.codes[:2])
    assert torch.equal(Latents.cat(list(latents)).codes, latents.codes)
    with pytest.raises(IndexError, match="Got index 3 for a batch of 3"):
        latents[3]


def test_nothing_changes_in_place() -> None:
    latents = Latents("w", CODES[Space.W])
    with pytest.raises(AttributeError):
        latents.codes = torch.zeros(1, 8)  # type: ignore[misc]
    half = latents.to(dtype=torch.float16)
    assert half.codes.dtype == torch.float16 and latents.codes.dtype == torch.float32


def test_repeat_cat_lerp() -> None:
    one, other = Latents("w_plus", CODES[Space.W_PLUS]), Latents("w_plus", torch.zeros(3, 4, 8))
    assert torch.equal(one.repeat(2).codes, Latents.cat([one, one]).codes)
    assert torch.equal(one.lerp(other, 0.0).codes, one.codes)
    torch.testing.assert_close(one.lerp(other, 0.25).codes, 0.75 * one.codes)
    assert torch.equal(one.lerp(other, 1.0).codes, other.codes)


def test_only_like_latents_go_together() -> None:
    w, z = Latents("w", CODES[Space.W]), Latents("z", CODES[Space.Z])
    with pytest.raises(MismatchError, match=r"got Latents\(w, \[3, 8\].* and Latents\(z, \[3, 8\]"):
        w.lerp(z, 0.5)
    with pytest.raises(MismatchError, match="the same space and size"):
        Latents.cat([w, Latents("w", torch.zeros(1, 9))])
    with pytest.raises(ValueError, match="at least one batch"):
        Latents.cat([])


@pytest.mark.parametrize("space", Space)
def test_saving_keeps_everything(space, tmp_path) -> None:
    latents = Latents(space, CODES[space].to(torch.float16))
    latents.save(tmp_path / "new" / "face.safetensors")
    loaded = Latents.load(tmp_path / "new" / "face.safetensors")
    assert loaded.space is space and torch.equal(loaded.codes, latents.codes)
    assert loaded.codes.dtype == torch.float16
    assert os.listdir(tmp_path / "new") == ["face.safetensors"]


def test_a_slice_saves_its_own_numbers(tmp_path) -> None:
    latents = Latents("w", CODES[Space.W])
    latents[1].save(tmp_path / "one.safetensors")
    assert torch.equal(Latents.load(tmp_path / "one.safetensors").codes, latents.codes[1:2])


def test_files_that_are_no_latents(tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(NotFoundError, match="no file"):
        Latents.load(path)
    write_tensors(path, {"weight": torch.zeros(2)}, {})
    with pytest.raises(ArtifactError, match=r"expected a tensor 'codes'.*\['weight'\]"):
        Latents.load(path)
    write_tensors(path, {"codes": torch.zeros(2)}, {"space": "w"})
    with pytest.raises(ArtifactError, match=r"holds invalid latents.*Add the batch dimension"):
        Latents.load(path)
