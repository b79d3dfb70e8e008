"""Describe a file and which of its tensors are used, before it is converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stylegan_hub.checkpoints import edits, faces, tensorflow
from stylegan_hub.checkpoints.files import arrays_in
from stylegan_hub.checkpoints.generator import describe, generator_reading, has_generator
from stylegan_hub.checkpoints.sources import Reading
from stylegan_hub.errors import StyleganHubError

_WIDTH = 100
_REST = "not used"


@dataclass
class Description:
    """The description of a file.

    Attributes:
        what: what the file is or holds, in words.
        details: sizes and settings of each network or array.
        used: names of tensors in the file, and what they become.
        idle: names of tensors that are not needed, and why.
        problems: why the file cannot be converted; empty if it can.
    """

    what: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, reading: Reading[Any]) -> None:
        """Add a network that was found."""
        self.what.append(reading.what)
        self.details |= {key: value for key, value in reading.config.items() if value is not None}
        network = reading.network()
        self.used |= reading.used(network)
        self.idle |= {reading.part.whole(name): why for name, why in reading.part.idle.items()}
        self.problems += [str(problem) for problem in reading.problems(network)]


def describe_content(content: Any) -> Description:
    """Describe the content of a file that has been read, including any problems."""
    found = Description()
    for is_one, add in _KINDS:
        try:
            if is_one(content):
                add(found, content)
        except StyleganHubError as error:
            found.problems.append(str(error))
    if not found.what and not found.problems:
        found.problems.append(f"holds nothing that can be converted: {describe(content)}")
    return found


def report(content: Any) -> Iterator[str]:
    """`describe_content` as lines of text, with all tensors of the file."""
    found = describe_content(content)
    yield f"The file holds {' and '.join(found.what) or 'nothing that is known'}."
    for key, value in found.details.items():
        yield f"  {key}: {value}"
    named = tensorflow.by_name(content) if tensorflow.is_tensorflow(content) else content
    counts = {"used": 0, _REST: 0}
    yield "Tensors:"
    for name, array in arrays_in(named):
        becomes = found.used.get(name)
        counts["used" if becomes else _REST] += 1
        why = f"{_REST}: {found.idle.get(name, _belongs(name, found))}"
        shape = "x".join(map(str, array.shape)) or "one number"
        line = f"  {name or 'the array'} [{shape}] {str(array.dtype).removeprefix('torch.')}"
        yield f"{line:<{_WIDTH // 2}} -> {becomes or why}"
    yield f"{counts['used']} tensors are used, {counts[_REST]} are not."
    for problem in found.problems:
        yield f"The file cannot be converted: {problem}"


def _belongs(name: str, found: Description) -> str:
    """Why a tensor is not used."""
    heads = {used.partition(".")[0] for used in found.used}
    head = name.partition(".")[0]
    if found.used and head not in heads:
        return f"{head} is another part of the file"
    return "no network has a place for it"


def _add_mapper(found: Description, content: Any) -> None:
    mapper = edits.mapper_from(content)
    space = "s" if mapper.style_space else "w_plus"
    found.what.append("a latent mapper of StyleCLIP")
    found.details |= {"space": space, "groups": ", ".join(mapper.networks)}
    for group, tensors in mapper.networks.items():
        found.used |= {source.name: f"{group}.{name}" for name, source in tensors.items()}


def _add_components(found: Description, content: Mapping[str, Any]) -> None:
    prefix, deviations = ("lat_", "lat_stdev") if "lat_comp" in content else ("", "std")
    edits.component_from(content, 0)
    found.what.append("principal components (GANSpace)")
    found.details |= {"components": len(content[f"{prefix}comp"])}
    found.used |= {f"{prefix}comp": "directions (choose by --component)", deviations: "their size"}
    found.idle |= {
        name: "not needed to displace a latent" for name in content if name not in found.used
    }


def _add_saved_direction(found: Description, content: Mapping[str, Any]) -> None:
    direction = edits.saved_direction_from(content)
    found.what.append("a direction that GANSpace saved")
    found.details |= {"layers": direction.layers, "strength": direction.strength}
    found.details |= direction.training
    found.used["lat_comp"] = f"a direction in w, times {content.get('lat_stdev')}"
    found.idle["act_comp"] = "a direction of activations"


def _add_statistics(found: Description, content: Any) -> None:
    means, _ = edits.statistics_from(content)
    found.what.append("means and standard deviations of style space (StyleCLIP's S_mean_std)")
    found.details["layers"] = len(means)
    found.used |= {name: "statistics of style space" for name, _ in arrays_in(content)}


def _add_vectors(found: Description, content: Any) -> None:
    vectors = edits.vectors_from(content)
    assert vectors is not None
    shape = list(vectors.tensor.shape)
    found.what.append(
        f"an array of shape {shape}: directions (--kind direction), latents (--kind latents), or "
        "StyleCLIP's fs3 (--statistics S_mean_std)"
        if not vectors.key and not vectors.names and len(shape) == 2
        else f"directions or latents of shape {shape}"
    )
    found.details |= {"pictures": ", ".join(vectors.names[:10])} if vectors.names else {}
    for name, _ in arrays_in(content):
        if not vectors.key or name.partition(".")[0] == vectors.key:
            found.used[name] = "a direction or latents"


def _is_plain(content: Any) -> bool:
    """Whether a file holds vectors, and nothing that is recognized by its names."""
    others: list[Callable[[Any], bool]] = [is_one for is_one, _ in _KINDS[:-1]]
    return not any(is_one(content) for is_one in others) and (
        edits.vectors_from(content) is not None
    )


_KINDS: list[tuple[Callable[[Any], Any], Callable[[Description, Any], None]]] = [
    (edits.is_mapper, _add_mapper),
    (faces.find_encoder, lambda found, content: found.add(faces.encoder_reading(content))),
    (faces.find_recognizer, lambda found, content: found.add(faces.recognizer_reading(content))),
    (faces.find_parser, lambda found, content: found.add(faces.parser_reading(content))),
    (has_generator, lambda found, content: found.add(generator_reading(content))),
    (edits.is_saved_direction, _add_saved_direction),
    (edits.is_components, _add_components),
    (edits.is_statistics, _add_statistics),
    (_is_plain, _add_vectors),
]
