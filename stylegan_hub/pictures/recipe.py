"""Pictures that store how they were made, and that they are edited; a PNG can be opened again.

The recipe (seed, edits, strengths, pipeline, version) is JSON in a text chunk of a PNG. If names
are not enough to restore everything (an edit that was found in this session, a face without a
seed), the stack itself is stored in another chunk. Every format states in its own metadata, and in
XMP with IPTC's "digital source type", that the picture was made or edited by a model, and by which
edits.

A picture is untrusted: its data are checked like any other file, and nothing is executed.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from stylegan_hub.artifacts import parse_json, write_bytes
from stylegan_hub.bounds import is_strength, is_within
from stylegan_hub.domain import Domain, Label
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import EditStack, StackedEdit
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.images import FORMATS
from stylegan_hub.latents import Space
from stylegan_hub.session import Session, label_of
from stylegan_hub.version import __version__

FORMAT_VERSION = 1
MAX_STACK_BYTES = 2 << 20
"""Larger stacks are not stored in a picture: eight directions fit, a latent mapper does not."""
_KEYWORD = "stylegan-hub"
_STACK_CHUNK = b"hbSk"  # ancillary, private, unsafe to copy into another picture
_SOFTWARE = f"stylegan-hub {__version__}"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MAX_EDITS = 100
_MAX_LETTERS = 500
_MAX_SEED = 2**63 - 1
_MAX_PIXELS = 64 << 20


@dataclass(frozen=True)
class Used:
    """An edit in a recipe.

    Attributes:
        what: its name for display.
        name: the bundled name or Hub id that leads to it; None for an edit that was found here.
        strength: the strength at which it was applied.
        region: the only part of the picture that it changes; None for the whole picture.
        digest: hash of its content, see `Edit.digest`.
    """

    what: str
    name: str | None
    strength: float
    region: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a picture was made.

    Attributes:
        seed: of the face; None for a face without a seed, such as one from a photograph.
        truncation_psi: truncation used with the seed.
        label: class of the face, for a generator with labels.
        edits: in their order.
        pipeline: its name, for display.
        fingerprint: of its generator; this decides whether the recipe fits.
        version: of this library.
    """

    seed: int | None
    truncation_psi: float
    label: Label | None
    edits: tuple[Used, ...]
    pipeline: str | None
    fingerprint: str
    version: str = __version__

    @property
    def sentence(self) -> str:
        """A sentence that describes the picture: that it is edited, and by which edits."""
        of = f" of {self.pipeline}" if self.pipeline else ""
        face = f"seed {self.seed}{of}" if self.seed is not None else f"a face{of} without a seed"
        by = f"with stylegan-hub {self.version}"
        if not self.edits:
            return f"Generated {by}: {face}."
        listed = ", ".join(
            f"{used.what} at strength {used.strength:g}"
            + (f" in {used.region}" if used.region else "")
            for used in self.edits
        )
        return f"Edited {by}: {listed}; on {face}."

    def to_json(self) -> str:
        """The recipe as text; `from_json` reads it."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe in an untrusted text.

        Raises:
            ValueError: it is not a recipe, holds impossible values, or is from a newer version.
        """
        try:
            said = parse_json(text)
            if (version := said["format_version"]) != FORMAT_VERSION:
                raise ValueError(f"it has format_version {version!r}; expected {FORMAT_VERSION}")
            used = [Used(**entry) for entry in said["edits"]]
            label = said["label"]
            recipe = cls(
                said["seed"], said["truncation_psi"],
                tuple(label) if isinstance(label, list) else label,
                tuple(used), said["pipeline"], said["fingerprint"], said["version"],
            )  # fmt: skip
            recipe._check()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"The recipe in the picture cannot be read: {error}.") from error
        return recipe

    def _check(self) -> None:
        texts = [self.fingerprint, self.version]
        optional = [self.pipeline]
        for used in self.edits:
            texts.append(used.what)
            optional += [used.name, used.region, used.digest]
            if not is_strength(used.strength):
                raise ValueError(f"strength {used.strength!r}")
        for text in [*texts, *(text for text in optional if text is not None)]:
            if not isinstance(text, str) or len(text) > _MAX_LETTERS:
                raise ValueError(f"got {str(text)[:40]!r}; expected a short text")
        if len(self.edits) > _MAX_EDITS:
            raise ValueError(f"it has {len(self.edits)} edits; at most {_MAX_EDITS} are read")
        if self.seed is not None and not (type(self.seed) is int and 0 <= self.seed <= _MAX_SEED):
            raise ValueError(f"seed {self.seed!r}")
        if not is_within(self.truncation_psi, 10):
            raise ValueError(f"truncation_psi {self.truncation_psi!r}")
        numbers = (
            self.label
            if isinstance(self.label, tuple)
            else (0 if self.label is None else self.label,)
        )
        if len(numbers) > 10_000 or not all(type(n) in (int, float) for n in numbers):
            raise ValueError("its label is neither a number nor a list of numbers")


def recipe_of(domain: Domain, session: Session) -> Recipe:
    """How the picture of a session is made."""
    base = domain.base_model
    return Recipe(
        seed=session.seed if session.latents is None else None,
        truncation_psi=session.truncation_psi,
        label=session.label,
        edits=tuple(_used(applied) for applied in session.edits),
        pipeline=base.id,
        fingerprint=base.fingerprint,
    )


def stack_bytes(session: Session) -> bytes | None:
    """Face and edits as the bytes of a file; None if names are enough to restore them.

    It is also None if the file would be larger than `MAX_STACK_BYTES`.
    """
    found = [applied for applied in session.edits if applied.name is None]
    if not found and session.latents is None:
        return None
    size = sum(
        t.numel() * t.element_size() for a in session.edits for t in a.edit.tensors().values()
    )
    if size > MAX_STACK_BYTES:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "stack.safetensors"
        replace(session.stack, start=session.latents).save(path)
        data = path.read_bytes()
    return data if len(data) <= MAX_STACK_BYTES else None


def encode(
    picture: Image.Image, recipe: Recipe, format: str = "PNG", stack: bytes | None = None
) -> bytes:
    """The picture as the bytes of a file that stores how it was made.

    Args:
        format: "PNG", "JPEG", "WEBP" or "GIF".
        stack: from `stack_bytes`; only PNG stores it.

    Raises:
        ValueError: the format is unknown.
    """
    if format not in FORMATS.values():
        known = ", ".join(sorted(set(FORMATS.values())))
        raise ValueError(f"Got the format {format!r}; expected one of {known}.")
    buffer, said, xmp = io.BytesIO(), recipe.sentence, _xmp(recipe)
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("Description", said)
        chunks.add_text("Software", _SOFTWARE)
        chunks.add_itxt(_KEYWORD, recipe.to_json())
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
        if stack is not None:
            chunks.add(_STACK_CHUNK, stack)
        picture.save(buffer, "PNG", pnginfo=chunks)
    elif format == "GIF":
        picture.save(buffer, "GIF", comment=said.encode()[:255])
    else:
        exif = Image.Exif()
        exif[0x010E], exif[0x0131] = said, _SOFTWARE  # ImageDescription, Software
        picture.save(buffer, format, quality=95, exif=exif, xmp=xmp)
    return buffer.getvalue()


def save_picture(
    domain: Domain, session: Session, path: str | Path, picture: Image.Image, mark: bool = False
) -> None:
    """Write the picture of a session as PNG, JPEG, WebP or GIF, by the suffix, with its recipe.

    Args:
        picture: of the session, or one that contains it, such as a photograph with the face pasted
            in.
        mark: write "edited" into a corner, see `marked`.

    Raises:
        ValueError: the suffix is unknown.
        StorageError: the disk refuses.
    """
    path = Path(path)
    if (format := FORMATS.get(path.suffix.lower())) is None:
        raise ValueError(f"Cannot write {path.name!r}: end the name in {', '.join(FORMATS)}.")
    shown = marked(picture) if mark else picture
    data = encode(shown, recipe_of(domain, session), format, stack_bytes(session))
    write_bytes(path, data)


def marked(picture: Image.Image, text: str = "edited") -> Image.Image:
    """A copy with a small word in its lower right corner, for viewers who do not see metadata."""
    copy = picture.convert("RGB")
    size = max(9, round(min(copy.size) / 24))
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(copy, "RGBA")
    margin = size // 2
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    width, height = right - left, bottom - top
    x, y = copy.width - width - 2 * margin, copy.height - height - 2 * margin
    box = (x - margin, y - margin, x + width + margin, y + height + margin)
    pen.rounded_rectangle(box, margin, (28, 25, 23, 170))
    pen.text((x - left, y - top), text, (250, 250, 250, 255), font)
    return copy


def read_recipe(path: str | Path) -> tuple[Recipe, bytes | None]:
    """The recipe in an untrusted PNG, and the stack in it if there is one.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: it is not a readable PNG, or has no recipe.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a PNG that was saved here.")
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels")
            picture.load()  # also reads the chunks after the pixels
            assert isinstance(picture, PngImagePlugin.PngImageFile)
            text = picture.text.get(_KEYWORD)
            # (name, data), or (name, data, True) for chunks after the pixels
            chunks = [chunk for chunk in picture.private_chunks if chunk[0] == _STACK_CHUNK]
        if text is None:
            raise ValueError("it has no recipe; only PNG pictures saved by stylegan-hub have one")
        recipe = Recipe.from_json(text)
    except Exception as error:  # a damaged picture can make Pillow raise anything
        raise ArtifactError(
            f"{path.name} cannot be opened as a face with edits: {str(error).rstrip('.')}.",
            remedy="Use the PNG as it was saved; other programs may remove the recipe. Any other "
            f"picture must be inverted first: stylegan-hub invert {path.name}.",
        ) from error
    return recipe, chunks[0][1] if chunks else None


def open_picture(
    domain: Domain, path: str | Path, load: Callable[[str], Edit]
) -> tuple[Session, list[str]]:
    """The session that a saved PNG shows, and sentences about the parts that could not be opened.

    Args:
        load: returns the edit of a name; its `ValueError` and `OSError` are among the sentences.

    Raises:
        NotFoundError, ArtifactError: see `read_recipe`.
        MismatchError: the picture belongs to another generator.
    """
    recipe, data = read_recipe(path)
    replace(domain.base_model, id=recipe.pipeline, fingerprint=recipe.fingerprint).check_same(
        domain.base_model, "picture"
    )
    stack = None if data is None else _stack(data, Path(path).name)
    problems: list[str] = []
    start = None if stack is None or stack.start is None else stack.start
    if recipe.seed is None and start is None:
        problems.append("The face could not be restored: it has no seed and is not in the file.")
    if start is not None:
        start = domain.lower(start, max(start.space, Space.W_PLUS))
        if len(start) != 1:
            raise ArtifactError(
                f"{Path(path).name} holds {len(start)} faces; expected one. Use another picture."
            )
    edits: list[StackedEdit] = []
    if stack is not None:
        for applied in stack.edits:
            applied.edit.check_fits(domain.base_model)
        edits = [*stack.edits]
    else:
        for used in recipe.edits:
            try:
                edits.append(_loaded(used, load, problems))
            except (ValueError, OSError) as error:
                problems.append(f"“{used.what}” was left out: {error}")
    session = Session(
        recipe.seed or 0, start, recipe.truncation_psi, recipe.label, EditStack(tuple(edits))
    )
    return session, problems


def _used(applied: StackedEdit) -> Used:
    edit = applied.edit
    return Used(
        label_of(applied)[:_MAX_LETTERS],
        applied.name,
        applied.strength,
        applied.region,
        edit.digest,
    )


def _loaded(used: Used, load: Callable[[str], Edit], problems: list[str]) -> StackedEdit:
    if used.name is None:
        raise ValueError("it was too large to store in the picture. Save the edit separately.")
    edit = load(used.name)
    if used.digest not in (None, edit.digest):
        problems.append(f"“{used.what}” has changed since; the picture may look different.")
    return StackedEdit(edit, used.strength, used.region, used.name)


def _stack(data: bytes, name: str) -> EditStack:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "stack.safetensors"
        file.write_bytes(data)
        try:
            return EditStack.load(file)
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(str(file), name)) from error


def _xmp(recipe: Recipe) -> bytes:
    """XMP that states the kind of picture, in the terms of IPTC and Dublin Core."""
    kind = "compositeWithTrainedAlgorithmicMedia" if recipe.seed is None else (
        "trainedAlgorithmicMedia"
    )  # fmt: skip
    said = escape("".join(c if c.isprintable() else " " for c in recipe.sentence))
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPES}{kind}</Iptc4xmpExt:DigitalSourceType>
<xmp:CreatorTool>{_SOFTWARE}</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{said}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
