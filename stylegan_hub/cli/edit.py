"""`stylegan-hub edit` and `methods`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stylegan_hub.cli.console import (
    AUTO,
    UsageError,
    main,
    one_line,
    open_studio,
    print_table,
    reporting,
    show_step,
)
from stylegan_hub.cli.options import (
    DetailOption,
    KeepOwnOption,
    MarkOption,
    NeutralOption,
    PasteOption,
    PipelineOption,
    spread,
)
from stylegan_hub.cli.start import PhotoOption, Source, Start, face_of
from stylegan_hub.cli.values import changes_of, check_folder, check_picture

if TYPE_CHECKING:
    from stylegan_hub.edits.base import Edit
    from stylegan_hub.methods.method import Method, Request
    from stylegan_hub.session import Session
    from stylegan_hub.studio import Studio


EditedOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Picture to write: .png, .jpg, .webp or .gif. By default NAME-edited.png beside the "
        "person's file.",
    ),
]


TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="What the picture should show, such as 'a face with purple hair'. If it is repeated, "
        "an edit is found for each text, one after the other.",
    ),
]


TargetOption = Annotated[
    Path | None, typer.Option(help="A picture whose character the face should get.")
]


BeforeOption = Annotated[
    list[str] | None,
    typer.Option(help="A picture or a seed before a change; use with --after. May be repeated."),
]


AfterOption = Annotated[
    list[str] | None,
    typer.Option(help="A picture or a seed after the change. May be repeated."),
]


UnpairedOption = Annotated[
    bool,
    typer.Option(
        "--unpaired", help="--before and --after are two sets of pictures of any size, not pairs."
    ),
]


MethodOption = Annotated[
    str,
    typer.Option(
        help="How to find the edit: a name that `stylegan-hub methods` lists, or auto for the most "
        "suitable one. For a method that needs no words, the name is enough."
    ),
]


PresetOption = Annotated[
    str | None, typer.Option(help="A named group of settings of the method, such as published.")
]


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting of the method, such as space=s. May be repeated."),
]


StepsOption = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Steps of the search, like --set steps=N.")
]


RegionOption = Annotated[
    str | None,
    typer.Option(
        help="The only part of the picture that may change, such as 'mouth, eyes'. Some methods "
        "search in the region; the results of others are limited to it."
    ),
]


KeepOption = Annotated[
    list[str] | None,
    typer.Option(help="With --text: what should not change, such as glasses. May be repeated."),
]


EveryFaceOption = Annotated[
    bool, typer.Option("--every-face", help="Find an edit for all faces, not only for this one.")
]


ChooseOption = Annotated[
    int, typer.Option(min=1, help="Which edit to use if a method finds several; 1 is the best.")
]


StrengthOption = Annotated[
    float | None, typer.Option(help="Strength of each found edit. By default the edit's default.")
]


SaveEditOption = Annotated[
    Path | None, typer.Option(help="Folder in which to save the found edit.")
]


OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Allow --save-edit to write into a folder that holds something else."
    ),
]


BeforeAfterOption = Annotated[
    bool, typer.Option("--before-after", help="Also show the picture before the edit, beside it.")
]


@dataclass(frozen=True)
class _Asked:
    """Options of `edit`: what to search for, and how."""

    texts: TextOption = None
    neutral: NeutralOption = None
    target: TargetOption = None
    before: BeforeOption = None
    after: AfterOption = None
    unpaired: UnpairedOption = False
    method: MethodOption = AUTO
    preset: PresetOption = None
    settings: SetOption = None
    steps: StepsOption = None
    region: RegionOption = None
    keep: KeepOption = None
    every_face: EveryFaceOption = False
    choose: ChooseOption = 1

    @property
    def pairs(self) -> bool:
        """Whether the request is made of pictures before and after."""
        return bool(self.before or self.after)

    @property
    def anything(self) -> bool:
        """Whether there is anything to search for."""
        by = (bool(self.texts), self.target is not None, self.pairs, self.method != AUTO)
        return any(by)

    @property
    def changes(self) -> dict[str, object]:
        """Settings by name; raises `UsageError` for a text that is not 'name=value'."""
        return changes_of(self.settings, self.steps)

    def requests(self) -> list[Request]:
        """The requests in their order, without a region; only texts can be several."""
        from stylegan_hub.methods.method import Nothing, Pairs, Picture, Words

        if self.texts:
            return [Words(text, self.neutral, tuple(self.keep or ())) for text in self.texts]
        if self.target is not None:
            from stylegan_hub.photos.photo import read_photo

            return [Picture(read_photo(self.target).image, self.target.stem)]
        if self.before and self.after:
            return [Pairs(_pictures(self.before), _pictures(self.after), not self.unpaired)]
        return [Nothing()]


@dataclass(frozen=True)
class _Written:
    """Options of `edit`: what to write."""

    output: EditedOption = None
    strength: StrengthOption = None
    save_edit: SaveEditOption = None
    overwrite: OverwriteOption = False
    before_after: BeforeAfterOption = False
    mark: MarkOption = False
    photo: PhotoOption = None
    paste: PasteOption = "changed"
    keep_own: KeepOwnOption = 1.0
    detail: DetailOption = True


@main.command()
@spread
def edit(*, start: Start, asked: _Asked, written: _Written) -> None:
    """Change one face with words, a picture, pairs of pictures, or saved edits.

    All --edit edits are applied before the search starts, and each --text is searched for on the
    face with the edits found before. Edits are displacements that add up, so their order does not
    matter. A face from a photo is pasted back into the photo.

    \b
    Examples:
      stylegan-hub edit --seed 7 --text "a face with purple hair" -o purple.png
      stylegan-hub edit --seed 7 --edit afro-hair:1.2 --edit surprised:-0.5 -o both.png
      stylegan-hub edit --seed 7 --text "a hat" --method table --keep glasses -o hat.png
      stylegan-hub edit --seed 7 --text older --text "a hat" --edit afro-hair:1 -o all-three.png
      stylegan-hub edit --seed 7 --text "curly hair" --region hair --before-after -o curls.png
      stylegan-hub edit --seed 7 --target cat.png -o cat-like.png
      stylegan-hub edit me.safetensors --edit afro-hair:1 -o me-with-an-afro.png
    """
    with reporting():
        _check_options(start, asked, written)
        output = _edited_name(written.output, start.person)
        session, source = face_of(start, written.paste, written.photo)
        studio = open_studio(
            start.pipeline,
            start.device,
            start.runtime,
            None if source is None else source.person,
        )
        studio.draw(session)  # refuses an unsuitable seed or edit before the long search
        if asked.anything:
            session = _with_found(studio, session, asked, written)
        _write_edited(studio, session, source, written, output)
        for line in _read_change(studio, session):
            typer.echo(line)
    also = f" and {written.save_edit}" if written.save_edit else ""
    typer.echo(f"Wrote {output}{also}.")


@main.command()
def methods(
    pipeline: PipelineOption = "portraits",
) -> None:
    """List the methods that find edits, what they answer, and whether a pipeline has them.

    \b
    Examples:
      stylegan-hub methods
      stylegan-hub methods --pipeline cars
    """
    with reporting():
        from stylegan_hub.methods import known

        pipe = open_studio(pipeline).pipe
        rows = [("name", "answers", "needs", "here", "presets", "what it does")]
        for one in known().values():
            answers = ", ".join(request.__name__.lower() for request in one.requests)
            rows.append(
                (
                    one.name,
                    answers + " (in a region)" * one.takes_region,
                    ", ".join(sorted(one.needs)) or "-",
                    "yes" if one.fits(pipe) else "no",
                    ", ".join(one.presets),
                    one.summary,
                )
            )
    print_table(rows)


def _write_edited(
    studio: Studio,
    session: Session,
    source: Source | None,
    written: _Written,
    output: Path,
) -> None:
    """Write the edited face, or the photo with it, beside the picture before if requested."""
    from stylegan_hub import images
    from stylegan_hub.pictures import save_picture

    before, after = studio.draw(session)
    if source is not None and source.photo is not None and written.paste != "none":
        from stylegan_hub.photos.paste import paste

        after = paste(
            source.photo,
            source.person.alignment,
            after,
            before,
            written.paste,
            written.keep_own,
            studio.pipe.detailer if written.detail else None,
        )
        before = source.photo.image
    shown = images.grid([before, after], columns=2) if written.before_after else after
    save_picture(studio.pipe, session, output, shown, written.mark)


def _read_change(studio: Studio, session: Session) -> list[str]:
    """What readers independent of CLIP say about the change, for pipelines of photographs."""
    from stylegan_hub.photos.finders import draws_photographs

    if not session.edits or not draws_photographs(studio.pipe):
        return []
    from stylegan_hub.photos.comparison import compare

    return compare(*studio.draw(session)).in_words()


def _check_options(start: Start, asked: _Asked, written: _Written) -> None:
    """Raise `UsageError` for options of `edit` that cannot be combined.

    Raises:
        ValueError: the found edit could not be applied or saved afterwards.
    """
    by_words, by_picture = bool(asked.texts), asked.target is not None
    if by_words + by_picture + asked.pairs > 1:
        raise UsageError("Give only one of --text, --target, and --before with --after.")
    if asked.pairs and not (asked.before and asked.after):
        raise UsageError("--before and --after belong together; give at least one of each.")
    is_opened = start.person is not None and start.person.suffix.lower() == ".png"
    is_inverted = start.person is not None and not is_opened
    is_pasted = is_inverted and written.paste != "none"
    if not asked.anything and not start.edits and not is_opened:
        raise UsageError(
            "Got nothing to do. Give --text, or --edit, or both; `stylegan-hub edit --help` "
            "lists all options."
        )
    for option, given, needed, what in (
        ("--save-edit needs a search", written.save_edit, asked.anything, "--text"),
        ("--region needs a search", asked.region, asked.anything, "--text"),
        ("--preset needs a search", asked.preset, asked.anything, "--text"),
        ("--every-face needs a search", asked.every_face, asked.anything, "--text"),
        ("--neutral needs --text", asked.neutral, by_words, "--text"),
        ("--keep needs --text", asked.keep, by_words, "--text"),
        ("--unpaired needs --before", asked.unpaired, asked.pairs, "--before and --after"),
        ("--photo needs a person to paste", written.photo, is_pasted, "a file from invert"),
        ("--keep-own needs a person to paste", written.keep_own != 1, is_pasted, "such a file"),
        ("--overwrite needs --save-edit", written.overwrite, written.save_edit, "--save-edit"),
    ):
        if given and not needed:
            raise UsageError(f"{option}. Give {what} too.")
    if written.save_edit is not None and len(asked.texts or ()) > 1:
        raise UsageError(
            "--save-edit saves one edit. Give one --text, and the others in runs of their own."
        )
    _ = asked.changes
    if written.strength is not None:
        from stylegan_hub.bounds import MAX_STRENGTH, is_strength

        if not is_strength(written.strength):
            raise ValueError(
                f"Got strength {written.strength}; expected a number from -{MAX_STRENGTH:g} to "
                f"{MAX_STRENGTH:g}."
            )
    if written.save_edit is not None:
        check_folder(written.save_edit)
        if not written.overwrite:
            from stylegan_hub.artifacts import check_room

            check_room(written.save_edit)  # before the search, which may take long


def _pictures(given: list[str]) -> list[Any]:
    """Seeds, or pictures read from files."""
    from stylegan_hub.photos.photo import read_photo

    if all(one.isdecimal() and not Path(one).exists() for one in given):
        return [int(one) for one in given]
    return [read_photo(one).image for one in given]


def _with_found(studio: Studio, session: Session, asked: _Asked, written: _Written) -> Session:
    """Search for the requested edits on the present face, and add each to the session."""
    from stylegan_hub.methods.choose import within

    for word in studio.unfamiliar(" ".join(asked.texts or ())):
        typer.echo(f"Warning: this CLIP has no token for {word!r} and may misread it.", err=True)
    if asked.region is not None:
        studio.region("", [asked.region])  # refuses an unknown region before the search
    requests = asked.requests()
    for request in requests:  # refuses an unsuitable text before the first search
        method = _method(studio, session, request, asked)
        checked, _ = within(method, request, asked.region)
        method.checked_request(studio.pipe, checked)
    for request in requests:
        method = _method(studio, session, request, asked)
        request, shown_in = within(method, request, asked.region)
        found = _chosen(_search(studio, session, request, method, asked), asked.choose)
        if written.save_edit is not None:
            found.save_pretrained(written.save_edit, written.overwrite)
        session = session.with_stack(session.stack.added(found, written.strength, shown_in))
    return session


def _method(studio: Studio, session: Session, request: Request, asked: _Asked) -> Method[Any]:
    """The method with the given name, or the most suitable one for the request and its region."""
    from stylegan_hub.methods import get
    from stylegan_hub.methods.choose import with_region

    if asked.method != AUTO:
        return get(asked.method)
    request = with_region(request, asked.region)
    return studio.method_for(session, request, every_face=asked.every_face)


def _search(
    studio: Studio, session: Session, request: Request, method: Method[Any], asked: _Asked
) -> list[Edit]:
    """The edits that a method finds; shows a progress bar meanwhile."""
    from tqdm import tqdm

    from stylegan_hub.methods.method import changed
    from stylegan_hub.steps import Step

    settings: Any = asked.preset
    if asked.changes:
        try:
            chosen = method.settings(studio.pipe, request, asked.preset)
            settings = changed(chosen, asked.changes)
        except TypeError as error:
            raise UsageError(f"A value of --set has the wrong type: {error}.") from error
    how = {"every_face": asked.every_face, "settings": settings}
    with (
        studio.search(session, request, method.name, **how) as search,
        tqdm(desc="Searching", unit="step") as progress,
    ):
        for step in search:
            if isinstance(step, Step):
                show_step(progress, step)
        return search.result()


def _chosen(found: list[Edit], number: int) -> Edit:
    """One of the found edits; if there are several, lists them."""
    from stylegan_hub.methods.method import caption

    if len(found) > 1:
        for place, one in enumerate(found, 1):
            typer.echo(f"{'*' if place == number else ' '}{place:3} {one_line(caption(one))}")
    if number > len(found):
        raise ValueError(
            f"Got --choose {number}, but the method found {len(found)} "
            f"edit{'s' * (len(found) != 1)}. Choose a smaller number."
        )
    return found[number - 1]


def _edited_name(output: Path | None, person: Path | None) -> Path:
    """The path of the picture to write, checked."""
    if output is None and person is None:
        raise UsageError("Missing option '--output' / '-o': give the picture to write.")
    if person is not None and person.suffix.lower() not in (".safetensors", ".png"):
        raise UsageError(
            f"Got {person.name}; expected a .safetensors file of a person, or a PNG saved by "
            "stylegan-hub. Make one with "
            f"stylegan-hub invert {person.name} -o {person.stem}.safetensors"
        )
    if output is None:
        assert person is not None
        output = person.with_name(f"{person.stem}-edited.png")
    check_picture(output)
    return output
