"""Assemble published checkpoints into one pipeline folder, with a card that lists their licenses.

    python recipes/assemble_pipeline.py --generator ffhq.pkl --clip openai/clip-vit-base-patch32 \\
        --recognizer model_ir_se50.pth --output ffhq
    python recipes/assemble_pipeline.py --generator https://example.org/afhqcat.pkl \\
        --clip openai/clip-vit-base-patch32 --neutral "a cat" --output cats

Generator, encoder, recognizer and parser are paths or https addresses (see convert_checkpoint.py
for the formats), or folders that were converted before; the CLIP is a folder or a Hub id. Parts
that do not fit each other are refused. An interrupted download is continued by the next run. The
folder is written completely or not at all.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from command_line import run
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.checkpoints import (
    faces,
    nvidia,
    read_checkpoint,
    rosinality,
    state_dicts,
    tensorflow,
)
from stylegan_hub.checkpoints.download import DOWNLOADS, fetch, print_progress
from stylegan_hub.checkpoints.generator import check_same_generator, generator_from
from stylegan_hub.checkpoints.sources import Source
from stylegan_hub.domain import NEUTRAL, check_channels
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.models.clip import build_image_processor
from stylegan_hub.models.clip import load_clip as read_clip
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

NVIDIA = "NVIDIA Source Code License: non-commercial use only"
LICENSES = {
    "clip": "MIT (OpenAI's CLIP)",
    "encoder": "MIT (encoder4editing); trained on FFHQ, whose license is non-commercial",
    "recognizer": "MIT (InsightFace_Pytorch); trained on faces collected for research",
    "parser": "MIT (face-parsing.PyTorch); trained on CelebAMask-HQ: non-commercial research",
}
"""Licenses of published weights; weights of your own have the license that you give them."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which parts to assemble."""

    generator: str
    """Checkpoint or folder of the generator."""
    clip: str
    """Folder or Hub id of a CLIP."""
    output: Path
    """Pipeline folder to write; it must not exist yet."""
    encoder: str | None = None
    """Checkpoint or folder of an e4e encoder for this generator."""
    recognizer: str | None = None
    """Checkpoint or folder of a face recognizer."""
    parser: str | None = None
    """Checkpoint or folder of a face parser."""
    img_crop: tuple[int, int] | None = None
    """Height and width of the picture inside the generator's square, without black bars: 384 512
    for the published cars."""
    neutral: str = NEUTRAL
    """What all its pictures show, in words, as "a car"; edits with words start there."""
    label: int | None = None
    """For a generator with labels, the class that is sampled by default. None: the first class."""
    generator_license: str | None = None
    """License of the generator's weights, if it is not the one that the card would state."""
    downloads: Path = DOWNLOADS
    """Folder in which downloads are kept."""


def main(config: Config) -> None:
    try:
        assemble(config)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"The pipeline is in {config.output}.")


def assemble(config: Config) -> StyleEditPipeline:
    """Write the folder; return the pipeline."""
    if config.output.exists():
        raise ArtifactError(f"{config.output} exists already; give another --output or remove it.")
    # The constructor knows what a pipeline can hold.
    possible = inspect.signature(StyleEditPipeline.__init__).parameters
    asked = {part for part in ("encoder", "recognizer", "parser") if getattr(config, part)}
    if refused := sorted(asked - possible.keys()):
        raise ArtifactError(
            f"Pipelines of this version hold no {refused[0]}. Leave out --{refused[0]}; "
            "convert_checkpoint.py writes a folder of it that can be loaded by itself."
        )
    generator, license_name = load_generator(config)
    check_channels(generator, f"The generator in {config.generator}")
    if config.img_crop is not None:
        generator.crop(*config.img_crop)
    extra: dict[str, Any] = {}
    if config.encoder:
        extra["encoder"] = load_encoder(config, generator)
    if config.recognizer:
        extra["recognizer"] = load_part(config, config.recognizer, "recognizer")
    if config.parser:
        extra["parser"] = load_part(config, config.parser, "parser")
    clip, tokenizer, image_processor = load_clip(config.clip)
    extra["neutral"] = config.neutral
    extra["label"] = config.label
    pipe = StyleEditPipeline(generator, clip, tokenizer, image_processor, **extra)
    staging = config.output.absolute().with_name(f".{config.output.name}.{uuid4().hex[:8]}.partial")
    try:
        pipe.save_pretrained(staging, safe_serialization=True)
        pictures = [pipe(seed).images[0] for seed in range(8)]
        image_files.save(image_files.grid(pictures, columns=4), staging / "images/samples.png")
        write_bytes(staging / "README.md", card(config, pipe, license_name).encode())
        os.rename(staging, config.output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return pipe


def load_generator(config: Config) -> tuple[StyleGAN2Generator, str]:
    """The generator and its license."""
    if Path(config.generator).is_dir():
        license_name = config.generator_license or "see the folder it was taken from"
        return StyleGAN2Generator.from_pretrained(config.generator), license_name
    path = fetch(config.generator, config.downloads, print_progress)
    content = read_checkpoint(path)
    generator = generator_from(content, path)
    if nvidia.is_nvidia(content) or tensorflow.is_tensorflow(content):
        license_name = NVIDIA
    else:
        license_name = f"of the weights that it was converted from; NVIDIA's have: {NVIDIA}"
    return generator, config.generator_license or license_name


def load_encoder(config: Config, generator: StyleGAN2Generator) -> Any:
    """The encoder, if its sizes and the decoder in its file are those of this generator."""
    assert config.encoder is not None
    encoder = load_part(config, config.encoder, "encoder")
    sizes = (encoder.config["num_ws"], encoder.config["w_dim"])
    if sizes != (generator.num_ws, generator.w_dim):
        raise MismatchError(
            f"The encoder gives [n, {sizes[0]}, {sizes[1]}]; this generator takes "
            f"[n, {generator.num_ws}, {generator.w_dim}]. Use the encoder that was made for it."
        )
    if not Path(config.encoder).is_dir():
        path = fetch(config.encoder, config.downloads)
        content = read_checkpoint(path)
        if rosinality.find(content) is not None:
            check_same_generator(generator_from(content, path), generator, "The encoder's decoder")
    return encoder


def load_part(config: Config, source: str, part: str) -> Any:
    """An encoder, a recognizer or a parser from its folder or its published file."""
    if Path(source).is_dir():
        from stylegan_hub.models.encoder import Encoder
        from stylegan_hub.models.parser import Parser
        from stylegan_hub.models.recognizer import Recognizer

        models: dict[str, Any] = {"encoder": Encoder, "recognizer": Recognizer, "parser": Parser}
        return models[part].from_pretrained(source)
    path = fetch(source, config.downloads, print_progress)
    content = read_checkpoint(path)
    known: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Path], Any]]] = {
        "encoder": (faces.find_encoder, faces.encoder_from),
        "recognizer": (faces.find_recognizer, faces.recognizer_from),
        "parser": (faces.find_parser, faces.parser_from),
    }
    is_one, load = known[part]
    if not is_one(content):
        others = [name for name, (is_other, _) in known.items() if is_other(content)]
        found = f"; it holds an {others[0]}" if others else ""
        raise MismatchError(f"{path}, given as --{part}, holds no {part}{found}.")
    return load(content, path)


def load_clip(source: str) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
    """CLIP, its tokenizer and its image processor from a folder or the Hub.

    OpenAI's repositories hold a pickle of the weights; it is read as one, without executing it.
    """
    from huggingface_hub import snapshot_download

    folder = Path(source)
    if not folder.is_dir():
        try:
            patterns = ["*.json", "*.txt"]
            folder = Path(
                snapshot_download(source, allow_patterns=[*patterns, "model.safetensors"])
            )
            if not (folder / "model.safetensors").is_file():
                folder = Path(
                    snapshot_download(source, allow_patterns=[*patterns, "pytorch_model.bin"])
                )
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"{source!r} is not a local folder, and the Hub did not provide it: {error}"
            ) from error
    # A pipeline's folder keeps the three in folders of their own.
    parts = {name: folder / name for name in ("clip", "tokenizer", "image_processor")}
    model, words, pictures = (path if path.is_dir() else folder for path in parts.values())
    pickle = model / "pytorch_model.bin"
    try:
        if not (model / "model.safetensors").is_file() and pickle.is_file():
            clip = clip_from_pickle(CLIPConfig.from_pretrained(model), pickle)
        else:
            clip = read_clip(model)
        tokenizer = CLIPTokenizer.from_pretrained(words)
        if (pictures / "preprocessor_config.json").is_file():
            processor = CLIPImageProcessorPil.from_pretrained(pictures)
        else:
            processor = build_image_processor(clip.config.vision_config.image_size)
    except (OSError, KeyError) as error:
        raise ArtifactError(f"{source!r} holds no CLIP that can be loaded: {error}") from error
    if len(tokenizer) > clip.config.text_config.vocab_size:
        raise MismatchError(
            f"The tokenizer of {source!r} has {len(tokenizer)} words, its CLIP "
            f"{clip.config.text_config.vocab_size}: they do not belong together."
        )
    return clip, tokenizer, processor


def clip_from_pickle(config: CLIPConfig, path: Path) -> CLIPModel:
    """CLIP with the weights of a pytorch_model.bin, read without executing it."""
    found = state_dicts.find(read_checkpoint(path), "logit_scale")
    if found is None:
        raise ArtifactError(f"{path} lacks the tensor 'logit_scale'; a CLIP needs it.")
    clip = CLIPModel(config)
    weights = {
        name: Source(found.whole[name], array).load()
        for name, array in found.tensors.items()
        if not name.endswith(".position_ids")  # older files hold those counters too
    }
    try:
        report = clip.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} holds a CLIP whose sizes differ from its config: {error}"
        ) from error
    missing = [name for name in report.missing_keys if not name.endswith("position_ids")]
    if missing or report.unexpected_keys:
        raise ArtifactError(
            f"{path} lacks the tensors {missing[:3]}, and holds {report.unexpected_keys[:3]}, for "
            "which a CLIP of this config has no place",
            got=tuple(report.unexpected_keys),
            expected=tuple(missing),
        )
    return clip


def card(config: Config, pipe: StyleEditPipeline, generator_license: str) -> str:
    """README.md: the parts, their sources and their licenses."""
    rows = [f"| generator | {_name(config.generator)} | {generator_license} |"]
    for part in ("clip", "encoder", "recognizer", "parser"):
        if source := getattr(config, part):
            rows.append(f"| {part} | {_name(source)} | {LICENSES[part]} |")
    height, width = pipe.generator.img_size
    labels = ""
    if classes := pipe.generator.c_dim:
        labels = (
            f" It has the classes 0 to {classes - 1}, of which {config.label or 0} is rendered "
            "unless `label=` names another one."
        )
    table = "\n".join(rows)
    return f"""---
library_name: stylegan-hub
pipeline_tag: text-to-image
license: other
license_name: see-the-parts
tags: [stylegan2, pipeline]
---

# A pipeline of published parts

A StyleGAN2 of {width} x {height} px (num_ws {pipe.generator.num_ws}, fingerprint
`{pipe.base_model.fingerprint}`), put together by `recipes/assemble_pipeline.py`.{labels}

```python
import stylegan_hub as hub

pipe = hub.StyleEditPipeline.from_pretrained("path/to/this/folder")
pipe(seed=7).images[0]
```

## Parts and licenses

Each part keeps its own license; the strictest one governs the whole. The licenses are those of the
published weights; a part from elsewhere may have another one.

| part | from | license |
|---|---|---|
{table}

## Intended use and limits

For research on image editing within the licenses above. It renders what it was trained on, with the
biases of those pictures. When you use it on pictures of people, ask them first, and do not pass off
an edited face as the real one.
"""


def _name(source: str) -> str:
    """A path without its folders, which are private; an address as it is."""
    name = source if "://" in source or not Path(source).exists() else Path(source).name
    return "`" + name.replace("|", "").replace("`", "") + "`"


if __name__ == "__main__":
    run(main, Config, __doc__)
