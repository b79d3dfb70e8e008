"""Portraits as data: an endless dataset, a folder of rendered pictures, and an export to files.

Trainings use seeds below `UNSEEN_SEED`; measurements use seeds from `UNSEEN_SEED` on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.portraits.attributes import ATTRIBUTES, Portraits, sample
from stylegan_hub.portraits.captions import captions
from stylegan_hub.portraits.factors import blends, factor_matrix
from stylegan_hub.portraits.renderer import PARTS, render_factors, render_with_masks

UNSEEN_SEED = 10_000_000
_SHARD = 1000


class PortraitDataset(IterableDataset[dict[str, object]]):
    """An endless dataset of portraits, which are rendered on demand.

    Each item is a dict: `image` float [3, h, w] in [-1, 1], `mask` int64 [h, w] with indices into
    `PARTS`, `labels` {attribute: int}, `captions` list of str, `identity` int, `seed` int.
    Item i has seed `start_seed + i`; data loader workers take turns.
    """

    def __init__(self, resolution: int = 64, start_seed: int = 0, captions_per_image: int = 2):
        self.resolution = resolution
        self.start_seed = start_seed
        self.captions_per_image = captions_per_image

    def __iter__(self) -> Iterator[dict[str, object]]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        batch = 8
        seed = self.start_seed + offset
        while True:
            seeds = [seed + i * stride for i in range(batch)]
            yield from self.items(seeds)
            seed += batch * stride

    def items(self, seeds: Sequence[int]) -> list[dict[str, object]]:
        """The items of the given seeds."""
        portraits = sample(seeds)
        pictures, masks = render_with_masks(portraits, self.resolution)
        texts = captions(portraits, seeds, self.captions_per_image)
        return [
            {
                "image": pictures[i],
                "mask": masks[i],
                "labels": {name: int(values[i]) for name, values in portraits.labels.items()},
                "captions": texts[i],
                "identity": int(portraits.identity[i]),
                "seed": seed,
            }
            for i, seed in enumerate(seeds)
        ]


class RenderCache:
    """A folder of rendered portraits with seeds 0 to len - 1, which may grow while it is read.

    On a CPU, rendering takes as long as training, so portraits are rendered once, into uint8 files
    that all trainings read. The files are memory-mapped, so that several processes share one copy.

    Attributes:
        resolution: width and height of the pictures.
        identities: number of identities, which take turns: the portrait with seed i has the
            identity i modulo this number. None if every portrait has an identity of its own.
        blends: whether the pictures with odd seeds are blends and not portraits (`factors.blends`).

    Raises:
        FileNotFoundError: the folder holds no rendered portraits.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        header = self.folder / "cache.json"
        if not header.is_file():
            raise FileNotFoundError(
                f"No rendered portraits in {self.folder}. Render them with "
                f"`python recipes/render_portraits.py --output_dir {self.folder}`."
            )
        values = json.loads(header.read_text())
        self.resolution = int(values["resolution"])
        self.identities: int | None = values.get("identities")
        self.blends: bool = values.get("blends", False)
        self._shards: list[NDArray[np.uint8]] = []

    def __len__(self) -> int:
        """Number of portraits that are ready now, counted without gaps from seed 0."""
        while (path := _shard_path(self.folder, len(self._shards))).is_file():
            self._shards.append(np.load(path, mmap_mode="r", allow_pickle=False))
        return _SHARD * len(self._shards)

    def images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Pictures as uint8 `[n, 3, h, w]`.

        Raises:
            IndexError: a portrait does not exist or is not ready.
        """
        ready = len(self)
        rows = []
        for index in (int(i) for i in indices):
            if not 0 <= index < ready:
                raise IndexError(f"Got index {index}; {self.folder} holds 0 to {ready - 1}.")
            rows.append(self._shards[index // _SHARD][index % _SHARD])
        return torch.from_numpy(np.stack(rows))

    def portraits(self, indices: Sequence[int] | Tensor) -> Portraits:
        """The portraits in those pictures.

        Raises:
            ValueError: the folder has blends and an index is odd, so the picture is a blend.
        """
        seeds = [int(i) for i in indices]
        if self.blends and any(seed % 2 for seed in seeds):
            raise ValueError(
                f"{self.folder} was made with --blends, so pictures with odd numbers are blends, "
                "not portraits. Use even numbers only, or render another folder without --blends."
            )
        if self.identities is None:
            return sample(seeds)
        return sample(seeds, [seed % self.identities for seed in seeds])

    def factors(self, indices: Sequence[int] | Tensor) -> Tensor:
        """The factors from which those pictures were rendered, `[n, len(FACTORS)]`."""
        if self.blends:
            return blends([int(i) for i in indices])
        return factor_matrix(self.portraits(indices))

    @classmethod
    def build(
        cls,
        folder: Path | str,
        count: int,
        resolution: int,
        workers: int = 0,
        identities: int | None = None,
        blends: bool = False,
    ) -> RenderCache:
        """Render the portraits that are missing up to `count`, which is rounded up to thousands.

        An interrupted build is continued where it stopped.

        Args:
            workers: number of processes, with one thread each; 0 means one per core.
            identities: number of identities that the portraits share; None gives each portrait an
                identity of its own.
            blends: whether every second picture is a blend and not a portrait.

        Raises:
            ValueError: the folder holds pictures of another size, other identities or another
                choice of blends; `identities` is below 1; or both `identities` and `blends` are
                given.
        """
        if identities is not None and identities < 1:
            raise ValueError(f"Got {identities} identities; expected at least one, or None.")
        if blends and identities is not None:
            raise ValueError(
                "Got both blends and identities, but a blend has no identity. Use only one of them."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = folder / "cache.json"
        if header.is_file():
            there = cls(folder)
            if there.resolution != resolution:
                raise ValueError(
                    f"{folder} holds portraits of {there.resolution} px, but {resolution} px were "
                    "asked for. Choose another folder."
                )
            if there.identities != identities:
                raise ValueError(
                    f"{folder} holds portraits of {there.identities or 'all different'} "
                    f"identities, but {identities or 'all different'} identities were asked for. "
                    "Choose another folder."
                )
            if there.blends != blends:
                raise ValueError(
                    f"{folder} was made with blends={there.blends}, but blends={blends} was asked "
                    "for. Choose another folder."
                )
        values = {"resolution": resolution, "identities": identities, "blends": blends}
        header.write_text(json.dumps(values))
        shards = -(-count // _SHARD)
        missing = [i for i in range(shards) if not _shard_path(folder, i).is_file()]
        jobs = [(str(folder), index, resolution) for index in missing]
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers or os.cpu_count() or 1) as pool:
            progress = tqdm(total=len(jobs) * _SHARD, unit="img", desc="rendering portraits")
            for _ in pool.imap(_render_shard, jobs):
                progress.update(_SHARD)
            progress.close()
        return cls(folder)


def _shard_path(folder: Path, index: int) -> Path:
    return folder / f"images-{index:05d}.npy"


def _render_shard(job: tuple[str, int, int]) -> None:
    folder, index, resolution = job
    torch.set_num_threads(1)
    cache = RenderCache(folder)
    pictures = np.empty((_SHARD, 3, resolution, resolution), dtype=np.uint8)
    for start in range(0, _SHARD, 100):
        first = index * _SHARD + start
        rendered = render_factors(cache.factors(range(first, first + 100)), resolution)
        pictures[start : start + 100] = ((rendered + 1) * 127.5).round().to(torch.uint8).numpy()
    path = _shard_path(Path(folder), index)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, pictures, allow_pickle=False)
    partial.replace(path)


def export(folder: Path | str, seeds: Sequence[int], resolution: int = 256) -> None:
    """Write portraits as files in the layout of Multi-Modal CelebA-HQ.

    The folder then holds `images/{i}.png`, `text/{i}.txt` with ten captions per picture,
    `masks/{i}.png` with indices into `parts.json`, and `attributes.json` with the labels. The
    portraits are numbered from 0 in the order of the seeds.
    """
    folder = Path(folder)
    for name in ("images", "text", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    attributes: dict[str, dict[str, str]] = {}
    dataset = PortraitDataset(resolution, captions_per_image=10)
    (folder / "parts.json").write_text(json.dumps(list(PARTS)))
    for start in tqdm(range(0, len(seeds), 8), desc="exporting portraits"):
        for offset, item in enumerate(dataset.items(seeds[start : start + 8])):
            stem = str(start + offset)
            image, mask = item["image"], item["mask"]
            assert isinstance(image, Tensor) and isinstance(mask, Tensor)
            image_files.to_pil(image[None])[0].save(folder / "images" / f"{stem}.png")
            image_files.mask_to_pil(mask).save(folder / "masks" / f"{stem}.png")
            texts, labels = item["captions"], item["labels"]
            assert isinstance(texts, list) and isinstance(labels, dict)
            (folder / "text" / f"{stem}.txt").write_text("\n".join(texts) + "\n")
            attributes[stem] = {name: ATTRIBUTES[name][index] for name, index in labels.items()}
    (folder / "attributes.json").write_text(json.dumps(attributes, indent=1))
