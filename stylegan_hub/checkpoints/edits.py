"""Published edits and latents as plain tensors: StyleCLIP, TargetCLIP, InterFaceGAN, GANSpace.

Code above this layer, which has a pipeline, decides what they become (a mapper, a direction, a
table, latents): `recipes/convert_checkpoint.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints import state_dicts
from stylegan_hub.checkpoints.pickles import Array
from stylegan_hub.checkpoints.sources import Source
from stylegan_hub.checkpoints.state_dicts import is_array, options
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Space

# Mappers of StyleCLIP

# "course" is the spelling in the published files.
_LEVELS = {"course_mapping": "coarse", "medium_mapping": "medium", "fine_mapping": "fine"}
_MAPPER = re.compile(
    r"(?:mapper\.)?(course_mapping|medium_mapping|fine_mapping|mapper_(\d{1,2})|mapping)"
    r"\.mapping\.([1-4])\.(weight|bias)"
)


@dataclass(frozen=True)
class PublishedMapper:
    """A mapper of StyleCLIP.

    Attributes:
        networks: group -> tensors "0.weight", "0.bias", ... of its four layers. Groups are coarse,
            medium and fine (0-4, 4-8 and all further layers of w_plus; the layers of a missing
            group are not edited), or all. In style space a group is the number of the layer, with
            toRGB layers counted.
        style_space: whether it edits style space.
    """

    networks: dict[str, dict[str, Source]]
    style_space: bool


def is_mapper(content: Any) -> bool:
    """Whether a file holds a mapper of StyleCLIP, with or without a decoder."""
    return state_dicts.find(content, _MAPPER) is not None


def mapper_from(content: Any) -> PublishedMapper:
    """The mapper of a checkpoint that has been read.

    Raises:
        ArtifactError: layers are missing or unexpected; the message names one.
    """
    found = state_dicts.find(content, _MAPPER)
    assert found is not None
    networks: dict[str, dict[str, Source]] = {}
    style_space = False
    for name, array in found.tensors.items():
        if (match := _MAPPER.fullmatch(name)) is None:
            if name.startswith("decoder."):
                continue  # the caller compares it with the pipeline's generator
            raise ArtifactError(
                f"holds the tensor {found.whole[name]!r}, for which a mapper of StyleCLIP has no "
                "place",
                got=name,
                expected="mapper.* and decoder.*",
            )
        style_space |= match[2] is not None
        group = match[2] or _LEVELS.get(match[1], "all")
        source = Source(found.whole[name], array)
        networks.setdefault(group, {})[f"{int(match[3]) - 1}.{match[4]}"] = source
    for group, tensors in networks.items():
        for index in range(4):
            for part in ("weight", "bias"):
                if f"{index}.{part}" not in tensors:
                    raise ArtifactError(
                        f"lacks the {part} of layer {index + 1} of the mapper's part {group!r}; "
                        "expected four layers",
                        got=sorted(tensors),
                        expected=f"{index}.{part}",
                    )
    _check_groups(networks, options(content))
    return PublishedMapper(networks, style_space)


def _check_groups(networks: Mapping[str, Any], opts: Mapping[str, Any]) -> None:
    """Raise `ArtifactError` if a level is missing that the file's options switch on."""
    if networks.keys() & set(_LEVELS.values()):
        for spelled, level in _LEVELS.items():
            flag = f"no_{level}_mapper"
            if level not in networks and opts.get(flag) is False:
                raise ArtifactError(
                    f"lacks 'mapper.{spelled}', although its options say {flag}=False.",
                    got=sorted(networks),
                    expected=level,
                    remedy="The file is incomplete; download it again.",
                )


# Directions and latents


@dataclass(frozen=True)
class Sizes:
    """Sizes of the generator that latents belong to."""

    num_ws: int
    w_dim: int
    z_dim: int
    num_styles: int


@dataclass(frozen=True)
class Vectors:
    """Latents or directions in a file whose space is not known yet.

    Attributes:
        key: their key in the file: "w", "direction"; empty if there is none.
        tensor: all of them, of any shape.
        names: one for each, if the file has names; usually the names of pictures.
    """

    key: str
    tensor: Tensor
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedDirection:
    """A direction as a file describes it.

    Attributes:
        vector: `[1 or num_ws, w_dim]`, with the length that the file intends for strength 1.
        layers: the first layer that it moves, and the one after the last; None for all.
        strength: the maximum of the file's slider, in both directions; None if not given.
        training: what the file says about its source.
    """

    vector: Tensor
    layers: tuple[int, int] | None = None
    strength: float | None = None
    training: dict[str, Any] = field(default_factory=dict)


_KEYS = ("direction", "w", "w_plus", "wp", "z", "latents", "latent", "latent_code", "codes")
_DIRECTION_KEYS = {"direction"}
_SPACES_OF_KEY = {
    "w": {Space.W, Space.W_PLUS}, "w_plus": {Space.W_PLUS}, "wp": {Space.W_PLUS}, "z": {Space.Z}
}  # fmt: skip


def vectors_from(content: Any) -> Vectors | None:
    """Latents or directions in a file; None if there are none.

    The file may hold an array (.pt, .npy); a list of arrays; a dict or .npz with one that is called
    direction, w, z, latents, latent or codes; or a dict of arrays by the names of pictures, as
    e4e, pSp and HyperStyle (`{name: latent}`) and rosinality's projector
    (`{name: {"latent": ...}}`) write it.

    Raises:
        ArtifactError: an array is damaged, several keys are possible, or latents differ in shape.
    """
    if is_array(content):
        return Vectors("", Source("the array", content).load())
    if isinstance(content, Mapping):
        keys = [key for key in _KEYS if is_array(content.get(key)) or _is_row(content.get(key))]
        if len(keys) > 1:
            raise ArtifactError(
                f"holds several possible arrays: {', '.join(keys)}.",
                got=tuple(keys),
                expected="one of them",
                remedy="Save the one that you want on its own.",
            )
        if keys and is_array(content[keys[0]]):
            return Vectors(keys[0], Source(keys[0], content[keys[0]]).load())
        if keys:
            return Vectors(keys[0], _stacked({f"{keys[0]} {i}": x for i, x in enumerate(
                content[keys[0]])}))  # fmt: skip
        named = {str(name): _latent_of(value) for name, value in content.items()}
    elif _is_row(content):
        named = {f"latent {index}": value for index, value in enumerate(content)}
    else:
        return None
    if not named or not all(value is not None for value in named.values()):
        return None
    flat = {
        name if index is None else f"{name} {index}": array
        for name, value in named.items()
        for index, array in (enumerate(value) if isinstance(value, list | tuple) else
                             [(None, value)])
    }  # fmt: skip
    if len({tuple(array.shape) for array in flat.values()}) > 1 or any(
        len(array.shape) not in (1, 2, 3) for array in flat.values()
    ):
        return None
    tensor = _stacked(flat)
    return Vectors("", tensor, tuple(flat) if isinstance(content, Mapping) else ())


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_array, value))


def _latent_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _latent_of(value.get("latent"))
    return value if is_array(value) or _is_row(value) else None


def _stacked(arrays: Mapping[str, Array]) -> Tensor:
    """The arrays stacked; a leading dimension of size 1 in each is replaced by the new one."""
    shapes = {tuple(array.shape) for array in arrays.values()}
    if len(shapes) > 1:
        raise ArtifactError(
            f"holds latents of several shapes: {', '.join(map(str, sorted(shapes)))}",
            got=tuple(sorted(shapes)),
            expected="one shape",
        )
    tensors = [Source(name, array).load() for name, array in arrays.items()]
    whole = torch.stack(tensors)
    return whole[:, 0] if whole.ndim >= 3 and whole.shape[1] == 1 else whole


def latents_of(
    vectors: Vectors, sizes: Sizes | None, space: Space | None, directions: bool = False
) -> tuple[Space, Tensor]:
    """The space of vectors, and the vectors as `[n, ...]` in that space.

    If the generator's sizes are known, the shape decides: `[num_ws, w_dim]` is one latent in
    w_plus, and not num_ws latents in w. An ambiguous shape is an error that asks for the space:
    latents in z if z is as large as w, and several rows, which may be the layers of another
    generator.

    Args:
        sizes: of the generator; None if it is not known.
        space: the requested space; None to find it out.
        directions: whether the vectors displace latents; then they cannot be in z.

    Raises:
        ArtifactError: the vectors fit several spaces.
        MismatchError: the vectors fit no space.
    """
    shape = tuple(vectors.tensor.shape)
    asked = _SPACES_OF_KEY.get(vectors.key, set(Space)) if space is None else {space}
    fitting = {
        one: count
        for one in Space
        if one in asked and not (directions and one is Space.Z)
        and (count := _count(shape, one, sizes)) is not None
    }  # fmt: skip
    if sizes is not None and shape[-2:] == (sizes.num_ws, sizes.w_dim) and Space.W_PLUS in fitting:
        fitting = {Space.W_PLUS: fitting[Space.W_PLUS]}
    expected = _expected(sizes, directions)
    if not fitting:
        raise MismatchError(
            f"Got {vectors.key or 'an array'} of shape {list(shape)}, which is not a latent"
            f"{'' if space is None else f' in {space}'} of this generator.",
            got=shape,
            expected=expected,
            remedy=f"Expected {expected}. Use the generator that it was made for.",
        )
    rows = len(shape) == 2 and shape[0] > 1 and not fitting.keys() <= {Space.W_PLUS, Space.S}
    if len(fitting) > 1 or (rows and space is None):
        can_be = [f"{count} in {one} (--space {one})" for one, count in fitting.items()]
        if sizes is not None and rows:
            can_be.append(
                f"one in w_plus of a generator with {shape[0]} layers, not {sizes.num_ws}"
            )
        raise ArtifactError(
            f"holds an array of shape {list(shape)}, which can be {', or '.join(can_be)}.",
            got=shape,
            expected=expected,
            remedy="Say which with --space" + ("" if sizes else ", or name its generator with "
                                               "--pipeline") + ".",
        )  # fmt: skip
    ((found, count),) = fitting.items()
    tail = shape[len(shape) - _dimensions(found) :]
    return found, vectors.tensor.reshape(count, *tail)


def _dimensions(space: Space) -> int:
    return 2 if space is Space.W_PLUS else 1


def _count(shape: tuple[int, ...], space: Space, sizes: Sizes | None) -> int | None:
    """How many latents of a space an array of this shape holds; None if it cannot hold any."""
    dimensions = _dimensions(space)
    before, tail = shape[: len(shape) - dimensions], shape[len(shape) - dimensions :]
    if len(tail) < dimensions or 0 in shape or sum(size > 1 for size in before) > 1:
        return None
    if sizes is not None:
        wanted = {
            Space.Z: (sizes.z_dim,), Space.W: (sizes.w_dim,), Space.S: (sizes.num_styles,),
            Space.W_PLUS: (sizes.num_ws, sizes.w_dim),
        }[space]  # fmt: skip
        if tail != wanted:
            return None
    elif space is Space.W_PLUS and tail[0] == 1:
        return None
    if dimensions == 1 and len(before) > 1 and before[-1] > 1:
        return None  # a row of rows: one latent in w_plus, perhaps of another generator
    return max(1, *before) if before else 1


def _expected(sizes: Sizes | None, directions: bool) -> str:
    if sizes is None:
        return "[n, num_ws, w_dim], or an array whose space is given by --space"
    shapes = [f"[n, {sizes.num_ws}, {sizes.w_dim}] (w_plus)", f"[n, {sizes.w_dim}] (w)",
              f"[n, {sizes.num_styles}] (s)"]  # fmt: skip
    return ", ".join(shapes if directions else [*shapes, f"[n, {sizes.z_dim}] (z)"])


def is_unit(vector: Tensor) -> bool:
    """Whether a direction has no size of its own: each row, or the whole, has length 1."""
    lengths = torch.linalg.vector_norm(vector.double().reshape(-1, vector.shape[-1]), dim=-1)
    whole = torch.linalg.vector_norm(vector.double())
    ones = torch.ones_like(lengths)
    return bool(torch.allclose(lengths, ones, atol=1e-3)) or abs(float(whole) - 1) < 1e-3


# GANSpace


def is_components(content: Any) -> bool:
    """Whether a file holds principal components: GANSpace's (.npz), or e4e's and HyperStyle's."""
    if not isinstance(content, Mapping) or is_saved_direction(content):
        return False
    found = [content.get(name) for name in ("lat_comp", "comp")]
    return any(array is not None and is_array(array) and array.ndim > 1 for array in found)


def component_from(content: Mapping[str, Any], index: int) -> PublishedDirection:
    """A principal component in w or w_plus; its length is one standard deviation.

    The code of e4e and HyperStyle sets a latent's coordinate along it; an edit here adds to it.

    Raises:
        ArtifactError: there is no such component, an array is damaged, or the components are not
            in w.
    """
    prefix = "lat_" if "lat_comp" in content else ""
    deviations_name = "lat_stdev" if prefix else "std"
    components = Source(f"{prefix}comp", content[f"{prefix}comp"]).load()
    if components.ndim not in (2, 3):
        raise ArtifactError(
            f"holds {prefix}comp of shape {list(components.shape)}",
            got=tuple(components.shape),
            expected="[count, 1 or num_ws, w_dim]",
        )
    stored = content.get(deviations_name)
    if stored is None or not is_array(stored):
        raise ArtifactError(
            f"lacks {deviations_name!r}, the standard deviation of each component",
            got=tuple(content),
            expected=deviations_name,
        )
    deviations = Source(deviations_name, stored).load().reshape(-1)
    if len(deviations) != len(components):
        raise ArtifactError(
            f"has {len(components)} components and {len(deviations)} standard deviations",
            got=len(deviations),
            expected=len(components),
        )
    if prefix and len(deviations) > 1 and bool((deviations == 1).all()):
        raise _of_z("all standard deviations are 1")
    if not 0 <= index < len(components):
        raise ArtifactError(
            f"has {len(components)} components; got component {index}",
            got=index,
            expected=f"0 to {len(components) - 1}",
        )
    return PublishedDirection(
        components[index].reshape(-1, components.shape[-1]) * deviations[index],
        training={"method": "GANSpace", "component": index},
    )


def is_saved_direction(content: Any) -> bool:
    """Whether a file is a direction that GANSpace's viewer saved (.pkl)."""
    return isinstance(content, Mapping) and {"lat_comp", "edit_start", "edit_end"} <= content.keys()


def saved_direction_from(content: Mapping[str, Any]) -> PublishedDirection:
    """A direction that GANSpace's viewer saved: a component, its deviation, its range of layers.

    Raises:
        ArtifactError: it is a direction of activations or in z, or a value is missing.
    """
    if content.get("edit_type", "latent") != "latent":
        raise ArtifactError(
            f"is a direction with the edit_type {str(content.get('edit_type'))[:30]!r}.",
            got=content.get("edit_type"),
            expected="latent",
            remedy="Only directions of latents can be converted.",
        )
    if str(content.get("latent_space", "W")).upper() != "W":
        raise _of_z(f"its latent_space is {str(content.get('latent_space'))[:30]!r}")
    start, end = content["edit_start"], content["edit_end"]
    deviation, reach = _number(content, "lat_stdev"), _number(content, "sigma_range")
    if deviation is None:
        raise ArtifactError(
            f"has {str(content.get('lat_stdev'))[:30]} as its standard deviation lat_stdev",
            got=content.get("lat_stdev"),
            expected="a number",
        )
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise ArtifactError(
            f"has the layers {str(start)[:20]} to {str(end)[:20]}",
            got=(start, end),
            expected="edit_start < edit_end",
        )
    if not is_array(content["lat_comp"]):
        raise ArtifactError("has no array as lat_comp")
    vector = Source("lat_comp", content["lat_comp"]).load()
    told = {
        name: value
        for name in ("name", "component_index", "model_name", "output_class", "truncation")
        if isinstance(value := content.get(name), str | int | float)
    }
    return PublishedDirection(
        vector.reshape(-1, vector.shape[-1]) * deviation,
        (start, end),
        abs(reach) if reach else None,
        {"method": "GANSpace", **told},
    )


def _number(content: Mapping[str, Any], name: str) -> float | None:
    """A number in a file, possibly as an array of one; None if it is not a number."""
    value: Any = content.get(name)
    if is_array(value):
        array = Source(name, value).load()
        return float(array) if array.numel() == 1 else None
    return float(value) if type(value) in (int, float) else None


def _of_z(why: str) -> ArtifactError:
    return ArtifactError(
        f"holds components in z ({why}), before the mapping network.",
        got="z",
        expected="w",
        remedy="Edits displace w_plus or s. Compute the components in w with GANSpace's --use_w.",
    )


# Tables of StyleCLIP


def statistics_from(content: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Means and standard deviations of style space, per layer, of StyleCLIP's S_mean_std.

    Raises:
        ArtifactError: it is something else; the message says what was expected.
    """
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise ArtifactError("is not S_mean_std, a pickle of two lists of arrays")
    both: list[list[Tensor]] = []
    for what, rows in zip(("mean", "standard deviation"), content, strict=True):
        rows = getattr(rows, "items", rows)  # an array of objects, or a list
        if not isinstance(rows, list | tuple) or not all(map(is_array, rows)):
            raise ArtifactError(f"has no list of arrays as its {what}s; expected S_mean_std")
        both.append(
            [Source(f"{what} of layer {i}", row).load().reshape(-1) for i, row in enumerate(rows)]
        )
    if [len(row) for row in both[0]] != [len(row) for row in both[1]]:
        raise ArtifactError("has means and standard deviations of different layers")
    return both[0], both[1]


def relevance_from(content: Any) -> Tensor:
    """StyleCLIP's table fs3.npy, [channels, d], with rows of length 1 (or 0).

    Raises:
        ArtifactError: it is something else, or damaged.
    """
    if not is_array(content) or len(content.shape) != 2:
        raise ArtifactError("is not fs3.npy, an array of [channels, 512]")
    return torch.nn.functional.normalize(Source("fs3", content).load(), dim=1)


def is_statistics(content: Any) -> bool:
    """Whether a file is StyleCLIP's S_mean_std."""
    rows = content if isinstance(content, Sequence) and not isinstance(content, str) else ()
    return len(rows) == 2 and all(
        isinstance(row, list | tuple) and row and all(map(is_array, row)) for row in rows
    )
