"""`stylegan-hub list`, `info`, `publish`, `unpublish`, `collection` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stylegan_hub.cli.console import (
    UsageError,
    hide_loading,
    main,
    one_line,
    print_table,
    reporting,
    value_text,
)
from stylegan_hub.cli.options import DeviceOption, PipelineOption, RuntimeOption

if TYPE_CHECKING:
    from stylegan_hub.hub import EditInfo


@main.command("list")
def list_edits(
    base_model: Annotated[
        str | None,
        typer.Option(help="List only edits of this generator: a pipeline, or a fingerprint."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="List only this kind: direction, latent_mapper, ...")
    ] = None,
    search: Annotated[str | None, typer.Option(help="List only names that contain this.")] = None,
    author: Annotated[str | None, typer.Option(help="List only this user's on the Hub.")] = None,
    hub: Annotated[
        bool, typer.Option(help="Also search the Hub, or list only bundled edits.")
    ] = True,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Maximum number of repositories on the Hub.")
    ] = 100,
) -> None:
    """List edits and direction tables, both bundled and on the Hub.

    \b
    Examples:
      stylegan-hub list --no-hub
      stylegan-hub list --kind latent_mapper --search hair
      stylegan-hub list --base-model portraits --author me
    """
    with reporting():
        from stylegan_hub import hub as zoo

        found = zoo.list_edits(base_model, kind, search, author, include_hub=hub, limit=limit)
        for problem in found.problems:
            typer.echo(f"Warning: {one_line(problem)}", err=True)
    header = ("name", "kind", "generator", "success", "collateral", "made for")
    rows = [header, *(_row(info) for info in found)]
    print_table(rows)


@main.command()
def info(
    name: Annotated[str, typer.Argument(help="Bundled name, folder or Hub id.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Show information about an edit or a direction table, without downloading its weights.

    \b
    Examples:
      stylegan-hub info afro-hair
      stylegan-hub info user/repo@v1
    """
    with reporting():
        from stylegan_hub import hub as zoo
        from stylegan_hub.names import is_edit

        found = zoo.edit_info(name, revision)
    strength = found.strength
    lines: dict[str, object] = {
        "name": found.name,
        "kind": found.kind,
        "from": found.source + (f", commit {found.revision}" if found.revision else ""),
        "made for": found.prompt,
        "fits these words": None if found.fit is None else f"{found.fit:.2f} of 1",
        "generator": f"{found.base_model or 'unknown'} (fingerprint {found.fingerprint})",
        "space": found.space,
        "strength": f"{strength.default:g} (slider from {strength.min:g} to {strength.max:g})"
        if is_edit(found.kind)
        else None,
        "numbers": f"{found.parameters:,}",
        "picture": found.picture,
        "stale": f"{', '.join(found.stale)} (measured with other weights; measure the edit again)"
        if found.stale
        else None,
    }
    # A metric cannot take the place of a line above, which would hide what that line says.
    lines |= {key: value for key, value in found.metrics.items() if key not in lines}
    for key, value in lines.items():
        if value is not None:
            typer.echo(f"{one_line(key).replace('_', ' ') + ':':24} {value_text(value)}")


@main.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of an edit, a table or a pipeline.")],
    repo_id: Annotated[
        str, typer.Argument(help="Repository: user/repo. It is created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Only you can see it.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Commit message.")] = None,
    parent_commit: Annotated[
        str | None, typer.Option(help="Refuse if the repository is no longer at this commit.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="License for the card: apache-2.0, cc-by-4.0, ...")
    ] = None,
    likeness: Annotated[
        Literal["nobody", "own", "consent"] | None,
        typer.Option(
            help="Whom the edit shows, for the card: no real person (nobody), you (own), or people "
            "who agreed (consent)."
        ),
    ] = None,
) -> None:
    """Upload a folder to the Hub as one commit. A missing card is written first.

    Log in first with `hf auth login`, or set HF_TOKEN.

    \b
    Examples:
      stylegan-hub publish runs/afro-hair me/afro-hair
      stylegan-hub publish runs/afro-hair me/afro-hair --private -m "trained twice as long"
    """
    with reporting():
        from stylegan_hub import hub as zoo

        is_edit = (folder / "config.json").is_file()
        said = license is not None or likeness is not None
        if is_edit and (said or not (folder / zoo.CARD_NAME).exists()):
            typer.echo(f"Wrote {zoo.write_card(folder, license, likeness)}.")
        url = zoo.publish(folder, repo_id, private, message, parent_commit=parent_commit)
    typer.echo(f"Published: {url}")


@main.command()
def unpublish(
    repo_id: Annotated[str, typer.Argument(help="Repository to delete on the Hub: user/repo.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete an edit, a table or a pipeline from the Hub, with all its versions.

    \b
    Example:
      stylegan-hub unpublish me/afro-hair
    """
    with reporting():
        from stylegan_hub import hub as zoo

        if not yes and not typer.confirm(f"Delete {repo_id} and all its versions?"):
            typer.echo("Nothing was deleted.")
            raise typer.Exit(1)
        zoo.unpublish(repo_id)
    typer.echo(f"Deleted {repo_id}.")


@main.command()
def collection(
    title: Annotated[str, typer.Argument(help="Title of the collection.")],
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Bundled names or folders. By default the pipeline and all its edits."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User or organization on the Hub. By default the logged-in user."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only you can see it.")] = False,
    description: Annotated[str | None, typer.Option(help="Description of the collection.")] = None,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Publish a pipeline and its edits, and add them to one collection on the Hub.

    \b
    Examples:
      stylegan-hub collection "Drawn portraits"
      stylegan-hub collection "My looks" runs/afro-hair runs/beard --user me --private
    """
    with reporting():
        from stylegan_hub import hub as zoo

        def told(repo_id: str, url: str) -> None:
            typer.echo(f"Published {repo_id}: {url}")

        made = zoo.publish_collection(
            title, folders or zoo.zoo_of(pipeline), user or zoo.who(), private, description,
            on_published=told,
        )  # fmt: skip
    typer.echo(f"Published the collection: {made.url}")


@main.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of edits.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribute that the edits should change, such as hair_style=afro. May be "
            "repeated. By default as in the last evaluation."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=100_000,
            help="Number of unseen faces. By default as in the last evaluation, or 128.",
        ),
    ] = None,
    reader: Annotated[
        str, typer.Option(help="Bundled name, folder or Hub id of the attribute reader.")
    ] = "attribute-reader",
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Measure edits again, and rewrite their metrics.json, pictures and cards.

    \b
    Examples:
      stylegan-hub evaluate runs/afro-hair --target hair_style=afro
      stylegan-hub evaluate cards/afro-hair cards/surprised --samples 512
    """
    with reporting():
        from tqdm import tqdm

        from stylegan_hub.artifacts import read_config
        from stylegan_hub.hub import evaluate_folder, read_metrics
        from stylegan_hub.metrics.edit_quality import parse_target
        from stylegan_hub.metrics.judges import judges_for
        from stylegan_hub.pipeline import StyleEditPipeline

        try:
            wanted = parse_target(target or ())
        except ValueError as error:
            raise UsageError(str(error)) from error
        for folder in folders:  # before loading, which takes seconds
            read_config(folder)
        hide_loading()
        pipe = StyleEditPipeline.from_pretrained(pipeline, device=device, runtime=runtime)
        known = any(read_metrics(folder).get("target") for folder in folders)
        judges = judges_for(pipe, reader, wanted or known)
        for folder in tqdm(folders, desc="Measuring", unit="edit"):
            metrics = evaluate_folder(folder, pipe, judges, wanted, samples)
            success, collateral = metrics.get("success"), metrics.get("collateral")
            typer.echo(
                f"{folder}: success {value_text(success)}, collateral {value_text(collateral)}"
            )


def _row(info: EditInfo) -> tuple[str, ...]:
    success, collateral = info.metrics.get("success"), info.metrics.get("collateral")
    return (
        info.name,
        info.kind,
        info.base_model or info.fingerprint or "-",
        f"{success:.2f}" if isinstance(success, int | float) else "-",
        f"{collateral:.3f}" if isinstance(collateral, int | float) else "-",
        info.prompt or "",
    )
