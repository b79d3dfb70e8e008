"""Train an edit by any method that trains, with checkpoints, on one process or several.

    accelerate launch recipes/train.py mapper --text "a face with an afro" \\
        --target_attributes hair_style=afro --output_dir runs/afro-hair
    accelerate launch recipes/train.py local --text "a face with curly hair" --output_dir runs/curls
    accelerate launch recipes/train.py essence --target docs/targets/zuri.png --output_dir runs/zuri
    accelerate launch recipes/train.py METHOD --help

The options after METHOD are its settings; those that are left out have the values of `--preset`. A
method that another package registers is trained in the same way. The output folder is the edit:
load_edit("runs/afro-hair") loads it. Besides config and weights it holds metrics.json, pictures of
unseen faces and a card. If a method finds several edits at once, each has a numbered folder in it.
With --push_to_hub and --hub_model_id user/afro-hair it is published. An interrupted run is
continued with --resume_from_checkpoint latest, on a CPU to exactly the same weights. Given no more
than `pipe.find`, a run gives the same edit.

Several processes: torchrun --nproc_per_node 2 recipes/train.py ... (on a CPU with
ACCELERATE_USE_CPU=true); with half the --train_batch_size they give the same result.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
import tyro
from command_line import plain_errors
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub import methods
from stylegan_hub.domain import COMPONENTS
from stylegan_hub.edits.base import Edit, Strength
from stylegan_hub.hub import Publishing, write_card
from stylegan_hub.latents import Latents
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.method import Nothing, Pairs, Picture, Request, Words
from stylegan_hub.methods.run import Run, TrainableMethod
from stylegan_hub.metrics.edit_quality import (
    SHOWN,
    draw,
    parse_target,
    write_quality,
)
from stylegan_hub.metrics.judges import READER, Judges, judges_for
from stylegan_hub.metrics.method_report import TARGET_NAME
from stylegan_hub.photos.photo import read_photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.steps import warmup_steps
from stylegan_hub.training import Training, TrainingConfig, training_device


@dataclass(frozen=True, kw_only=True)
class Config(Publishing, TrainingConfig):
    """Options of every method; `options_of` adds the method's request and settings."""

    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    preset: str | None = None
    """Named settings. None: those that suit the pipeline and the request."""
    face: str | None = None
    """Find the edit for this face only: a seed, or a file of latents."""
    label: int | None = None
    """For a generator with labels, the class whose faces are sampled."""

    target_attributes: tuple[str, ...] = ()
    """What the reader should find after the edit, such as hair_style=afro or character=Zuri. Empty:
    measure only what needs no reader."""
    reader: str | None = READER
    """Bundled name, folder or Hub id of the attribute reader. None: measure only what needs no
    reader, as for pictures other than drawn portraits; for most pipelines this is detected."""
    strength: tuple[float, ...] | None = None
    """Strength at which the edit is measured and at which its slider starts, or three numbers: this
    one, the lowest and the highest of the slider. None: the method's own."""
    samples: int = 128
    """Number of unseen faces that are edited and measured at the end."""

    lr_warmup_steps: int | None = None  # type: ignore[assignment]
    """Steps over which the learning rate rises linearly. None: 5 % of the steps."""
    checkpointing_steps: int | None = None  # type: ignore[assignment]
    """Steps between two checkpoints. None: half of the steps."""
    sample_steps: int | None = None  # type: ignore[assignment]
    """Steps between two sheets of pictures. None: half of the steps."""

    def __post_init__(self) -> None:
        if self.strength is not None:
            strength_of(self.strength, Strength())  # raises before the training, not after it
        half = max(1, self.max_train_steps // 2)
        usual = {
            "lr_warmup_steps": warmup_steps(self.max_train_steps),
            "checkpointing_steps": half,
            "sample_steps": half,
        }
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()


SETTINGS_NAMES = {
    "steps": "max_train_steps",
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "seed": "seed",
}
"""Settings that every trainable method has, and their names as options."""


def main(name: str, args: Sequence[str]) -> None:
    """Train with the method of this name.

    Args:
        args: the options, as on the command line.

    Raises:
        SystemExit: the options cannot be parsed, or the training was interrupted.
        ValueError: the method does not exist or does not train, the output folder holds something
            else, or `find` raises it.
    """
    method = methods.get(name)
    if not isinstance(method, TrainableMethod):
        able = [m.name for m in methods.known().values() if isinstance(m, TrainableMethod)]
        raise ValueError(
            f"Got the method {name!r}, which does not train; expected one of {', '.join(able)}. "
            f"Use pipe.find(..., method={name!r})."
        )
    shown = options_of(method, method.presets["default"])
    asked = parsed(name, shown, args)
    attributes = parse_target(asked.target_attributes)
    asked.check_publishing()
    asked.check_output_dir()
    request = request_of(asked)
    pipe = load_pipeline(asked, method)
    # Only now is it known which settings are the defaults.
    chosen = method.settings(pipe, method.checked_request(pipe, request), asked.preset)
    config = parsed(name, options_of(method, chosen), args)
    domain, request, face, settings = method.prepared(
        pipe, request, face_of(config, pipe), config.label, settings_of(config, chosen)
    )
    faces = given_faces(config, domain)
    more = {} if faces is None else {"faces": faces}  # not every method takes faces
    run = method.start(domain, request, face, settings, **more)
    if config.push_to_hub and run.count > 1:
        raise SystemExit("--push_to_hub publishes one edit, and this run gives several.")
    for remark in run.remarks:
        print(remark)
    if carried_out(run, config, domain, face):
        judges = judges_for(domain, config.reader, attributes)
        found = run.edits()
        for index, edit in enumerate(found):
            folder = config.output_dir if len(found) == 1 else config.output_dir / str(index)
            edit = method.finished(edit, domain, request, face)
            write(edit, folder, config, domain, request, judges, attributes)
        config.publish_if_asked(config.output_dir)


def carried_out(run: Run, config: Config, domain: StyleEditPipeline, face: Latents | None) -> bool:
    """Run the search; return whether this process should now write what was learned."""
    training = Training(config, {"run": run}, {"run": run.optimizer()})
    share = (training.accelerator.process_index, training.accelerator.num_processes)

    def step_fn(step: int) -> Mapping[str, Tensor]:
        def losses_of(micro: int) -> Mapping[str, Tensor]:
            random = training.generator(step, micro, shared=True)
            return run.losses(step * config.gradient_accumulation_steps + micro, random, share)

        return training.minimize("run", losses_of, max_grad_norm=run.max_grad_norm)

    faces = domain.sample(range(UNSEEN_SEED, UNSEEN_SEED + SHOWN)) if face is None else face
    before = draw(domain, faces)

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        sheet = image_files.grid(torch.cat([before, run.shown(faces)]), columns=len(before))
        image_files.save(sheet, folder / f"step-{step:06}.png")

    return training.complete(step_fn, on_sample)


def write(
    edit: Edit,
    folder: Path,
    config: Config,
    domain: StyleEditPipeline,
    request: Request,
    judges: Judges,
    attributes: Mapping[str, str],
) -> None:
    """The edit's folder: weights, numbers, pictures and card."""
    if config.strength is not None:
        edit.strength = strength_of(config.strength, edit.strength)
    training = {**edit.origin.training, **how_trained(config)}
    edit.origin = replace(edit.origin, training=training)
    edit.save_pretrained(folder, overwrite=True)  # the run's own folder
    if isinstance(request, Picture):
        image_files.save(target_picture(domain, request.image), folder / TARGET_NAME)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.samples)
    metrics = write_quality(folder, domain, judges, edit, attributes, seeds)
    write_card(folder)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    print(f"The edit is in {folder}.")


def how_trained(config: Config) -> dict[str, Any]:
    """What the edit's config and its card say about the training, besides the settings."""
    names = ("lr_scheduler", "lr_warmup_steps", "gradient_accumulation_steps", "mixed_precision")
    return {name: getattr(config, name) for name in names}


# From options to the arguments of a method


def load_pipeline(config: Config, method: TrainableMethod[Any]) -> StyleEditPipeline:
    """The pipeline, with the given components in place of its own."""
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    for name in sorted(method.needs):
        if (folder := getattr(config, name)) is not None:
            module, cls = COMPONENTS[name]
            component = getattr(import_module(module), cls).from_pretrained(folder)
            pipe.register_modules(**{name: component.eval().requires_grad_(False).to(pipe.device)})
    return pipe


def request_of(options: Any) -> Request:
    """The request."""
    given = {name: value for name, value in vars(options).items() if value not in (None, ())}
    kinds = [name for name in ("text", "target", "before") if name in given]
    if len(kinds) > 1:
        raise SystemExit(
            f"Got {' and '.join(f'--{name}' for name in kinds)}; give only one of them."
        )
    region = given.get("region")
    if kinds == ["text"]:
        return Words(options.text, options.neutral, options.keep, region)
    if kinds == ["target"]:
        return Picture(opened(options.target, "target"), options.target.stem)
    if kinds == ["before"]:
        before, after = (
            [opened(path, name) for path in getattr(options, name)] for name in ("before", "after")
        )
        return Pairs(before, after, name=options.output_dir.name)
    return Nothing(region)


def opened(path: Path, option: str) -> Image.Image:
    """An upright picture from a file."""
    try:
        return read_photo(path).image
    except (OSError, ValueError) as error:
        raise SystemExit(f"--{option} {path} cannot be read as a picture: {error}") from error


def face_of(config: Config, pipe: StyleEditPipeline) -> Latents | None:
    """The face that the edit is for; None for every face."""
    if config.face is None:
        return None
    if config.face.isdecimal():
        return pipe.sample(int(config.face), label=config.label)
    return Latents.load(config.face)


def given_faces(options: Any, pipe: StyleEditPipeline) -> Latents | None:
    """The faces to train on; None for random ones."""
    seeds, path = getattr(options, "seeds", ()), getattr(options, "latents", None)
    if sum((bool(seeds), path is not None, options.face is not None)) > 1:
        raise SystemExit("Got several of --face, --seeds and --latents; give only one of them.")
    if path is not None:
        return Latents.load(path)
    return pipe.sample(seeds, label=options.label) if seeds else None


def strength_of(given: Sequence[float], usual: Strength) -> Strength:
    """The range of the slider: as given, or widened until it contains the default.

    Raises:
        ValueError: neither one number nor three, or the three are not a range.
    """
    if len(given) not in (1, 3) or not all(map(math.isfinite, given)):
        listed = " ".join(map(str, given))
        raise ValueError(
            f"Got strength {listed}; expected one number, or three: default, lowest, highest."
        )
    if len(given) == 3:
        return Strength(*given)
    (far,) = given
    return replace(usual, default=far, min=min(usual.min, far), max=max(usual.max, far))


def settings_of(options: Any, chosen: Any) -> Any:
    """The settings from the options."""
    names = [entry.name for entry in fields(chosen) if entry.init]
    return replace(
        chosen, **{name: getattr(options, SETTINGS_NAMES.get(name, name)) for name in names}
    )


# Options


def parsed(name: str, options: type[Any], args: Sequence[str]) -> Any:
    """The given options of the method with this name, and the defaults of others."""
    return tyro.cli(
        options,
        prog=f"train {name}",
        args=list(args),
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues),
        use_underscores=True,
    )


def options_of(method: TrainableMethod[Any], settings: Any) -> type[Any]:
    """`Config` with the request and the settings of this method, with these defaults."""
    usual = {option: getattr(settings, name) for name, option in SETTINGS_NAMES.items()}
    hints, own = get_type_hints(Config), get_type_hints(type(settings))
    added: list[tuple[str, Any, Any]] = [
        (name, hints[name], field(default=value)) for name, value in usual.items()
    ]
    added += request_options(method)
    added += face_options(method)
    added += [
        (name, _described(Path | None, f"Folder of a {name} in place of the pipeline's own."), None)
        for name in sorted(method.needs)
    ]
    described = _descriptions(type(settings))
    added += [
        (entry.name, _described(own[entry.name], described.get(entry.name, "")),
         field(default=getattr(settings, entry.name)))
        for entry in fields(settings)
        if entry.init and entry.name not in SETTINGS_NAMES
    ]  # fmt: skip
    names = [name for name, *_ in added] + [name for name in hints if name not in usual]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(
            f"The settings of {method.name!r} have names that other options have: "
            f"{', '.join(sorted(twice))}. Rename them."
        )
    return make_dataclass("Options", added, bases=(Config,), frozen=True, kw_only=True)


def request_options(method: TrainableMethod[Any]) -> list[tuple[str, Any, Any]]:
    """Name, type and default of the options for the request."""
    alone = len(method.requests) == 1

    def option(name: str, kind: Any, words: str) -> tuple[str, Any, Any]:
        default = field() if alone else field(default=None)
        return (name, _described(kind if alone else kind | None, words), default)

    found: list[tuple[str, Any, Any]] = []
    if Words in method.requests:
        neutral = "What they show now. None: the pipeline's own words."
        keep = "What should not change, in words: glasses hair."
        found += [
            option("text", str, 'What the pictures should show: "a face with an afro".'),
            ("neutral", _described(str | None, neutral), field(default=None)),
            ("keep", _described(tuple[str, ...], keep), field(default=())),
        ]
    if Picture in method.requests:
        found.append(option("target", Path, "A picture whose character faces should get."))
    if Pairs in method.requests:
        kind = tuple[Path, ...]
        found += [
            option("before", kind, "Pictures before the change."),
            option("after", kind, "As many pictures after it."),
        ]
    if method.takes_region:
        words = 'The part of the picture that may change: "hair" or "mouth, eyes".'
        found.append(("region", _described(str | None, words), field(default=None)))
    return found


def face_options(method: TrainableMethod[Any]) -> list[tuple[str, Any, Any]]:
    """Name, type and default of the options for the faces to train on."""
    if not method.takes_faces:
        return []
    seeds = "Train on the faces of these seeds. None: random faces."
    latents = "Train on these latents, from a file that Latents.save wrote. None: random ones."
    return [
        ("seeds", _described(tuple[int, ...], seeds), field(default=())),
        ("latents", _described(Path | None, latents), field(default=None)),
    ]


def _described(kind: Any, words: str) -> Any:
    return Annotated[kind, tyro.conf.arg(help=" ".join(words.split()))]


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """The text below each field of a dataclass."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, SyntaxError):  # a class that was defined without a source file
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for entry, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[entry.target.id] = str(below.value.value)
    return found


def renamed(args: Sequence[str], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Options with earlier names, under their present names: {"--description": ["--text"]}."""
    found: list[str] = []
    for arg in args:
        name, equals, value = arg.partition("=")
        now = names.get(name.replace("-", "_").replace("__", "--", 1))
        found += [arg] if now is None else [*now[:-1], now[-1] + equals + value]
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        able = [m.name for m in methods.known().values() if isinstance(m, TrainableMethod)]
        print(f"{__doc__}\nMethods: {', '.join(able)}.")
        raise SystemExit(0 if {"-h", "--help"} & set(sys.argv) else 2)
    with plain_errors():
        main(sys.argv[1], sys.argv[2:])
