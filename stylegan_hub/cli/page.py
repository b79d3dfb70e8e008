"""`stylegan-hub demo` and `space`: the page on this machine, and as a Space."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylegan_hub import clone
from stylegan_hub.cli.console import UsageError, main, open_studio, reporting
from stylegan_hub.cli.options import DeviceOption, PipelineOption, RuntimeOption
from stylegan_hub.cli.values import check_folder


@main.command()
def demo(
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. By default only this machine.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name by which others reach the page; '*' for any. May be repeated."
        ),
    ] = None,
) -> None:
    """Start the web page on this machine, like `python app.py` in a clone.

    \b
    Example:
      stylegan-hub demo --port 8000
    """
    with reporting():
        if find_spec("gradio") is None:
            raise ValueError(
                'The page needs gradio. Install it with pip install "stylegan-hub[demo]".'
            )
    arguments = ["--pipeline", pipeline, "--device", device]
    arguments += ["--host", host] if host is not None else []
    arguments += ["--port", str(port)] if port is not None else []
    arguments += ["--runtime", runtime] if runtime is not None else []
    for name in allow_host or ():
        arguments += ["--allow-host", name]
    clone.run("app.py", arguments)


@main.command()
def space(
    name: Annotated[str, typer.Argument(help="Name of the Space; with --push: user/name.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write. By default named like the Space."),
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit", help="An edit to include. May be repeated. By default all bundled edits."
        ),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Upload it to the Hub.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="With --push: only you can see it.")
    ] = False,
    static: Annotated[
        bool,
        typer.Option(
            "--static", help="Write a page that needs no server: the visitor's browser renders."
        ),
    ] = False,
    hardware: Annotated[
        Literal["zero-a10g", "cpu-basic"] | None,
        typer.Option(help="Hardware that the Space requests. By default zero-a10g."),
    ] = None,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Write a complete Space: one folder with the page, a pipeline and its edits.

    \b
    Examples:
      stylegan-hub space portraits-page --edit afro-hair --edit glasses
      stylegan-hub space portraits-static --static
      stylegan-hub space me/portraits-page --push --private
    """
    with reporting():
        from stylegan_hub import hub as zoo

        title = name.rpartition("/")[2]
        if push and name.count("/") != 1:
            raise UsageError(f"Got the name {name!r}; expected user/name with --push.")
        folder = Path(title) if output is None else output
        check_folder(folder.absolute().parent)
        if static:
            if hardware is not None:
                raise UsageError("--hardware cannot be used with --static. Leave one of them out.")
            _write_static_page(pipeline, folder, edits, title)
        else:
            made = zoo.write_space(folder, pipeline, edits, title, hardware or "zero-a10g")
            typer.echo(f"Wrote {made.folder} with {made.pipeline} and {len(made.edits)} edits.")
        if push:
            typer.echo(f"Published the Space: {zoo.push_space(folder, name, private)}")


def _write_static_page(
    pipeline: str, folder: Path, given: Sequence[str] | None, title: str
) -> None:
    """The page without a server, with the edits that a browser can compute."""
    from stylegan_hub.browser.static_page import write_static_page
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.hub.space import bundled_for

    pipe = open_studio(pipeline).pipe
    names = bundled_for(pipe.base_model.fingerprint) if given is None else given
    page = write_static_page(
        pipe, folder, title=title, edits={name: load_edit(name) for name in names}
    )
    typer.echo(
        f"Wrote {page.folder} with {len(names)} edits: {page.total / 1e6:.1f} MB, of which "
        f"{page.first / 1e6:.1f} MB are loaded for the first picture. Try it with "
        f"python -m stylegan_hub.browser.served {page.folder}"
    )
