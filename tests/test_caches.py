"""The sizes of the caches, as Linux reports them."""

from __future__ import annotations

from pathlib import Path

from stylegan_hub.ops.caches import USUAL, cache_bytes


def described(folder: Path, *caches: tuple[int, str, str]) -> Path:
    for index, (level, kind, size) in enumerate(caches):
        place = folder / f"index{index}"
        place.mkdir(parents=True)
        for name, value in (("level", str(level)), ("type", kind), ("size", size)):
            (place / name).write_text(value + "\n")
    return folder


def test_what_linux_tells(tmp_path: Path) -> None:
    system = described(
        tmp_path, (1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "1024K"),
        (3, "Unified", "32M"),
    )  # fmt: skip
    assert (cache_bytes(2, system), cache_bytes(3, system)) == (2**20, 2**25)


def test_without_a_third_cache(tmp_path: Path) -> None:
    system = described(tmp_path, (2, "Unified", "2048K"))
    assert cache_bytes(3, system) == 2**21


def test_what_cannot_be_is_left_out(tmp_path: Path) -> None:
    assert cache_bytes(2, tmp_path / "nowhere") == USUAL[2]
    system = described(tmp_path, (2, "Unified", "large"), (3, "Unified", "99G"))
    assert cache_bytes(2, system) == USUAL[2]
    assert cache_bytes(3, system) == 2**28
