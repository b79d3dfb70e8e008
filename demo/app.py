"""Puts the page together and serves it. Nothing is fetched from outside."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import warnings
from collections.abc import Collection, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when imported
os.environ.setdefault("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "4")  # of each event, for all visitors

import gradio as gr
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from demo import channel, drafts, in_browser, programs, zerogpu
from demo.components import explain, heading, toast
from demo.first_faces import first_seeds
from demo.opening import Opening
from demo.own_address import OwnAddress, name_in
from demo.pipelines import Pipelines
from demo.stage import Stage
from demo.tabs import (
    essence,
    local,
    make,
    mix,
    more,
    photo,
    save,
    share,
    text_to_face,
    words,
    zoo,
)
from demo.temporary import use_own_folder
from demo.uploads_in_all import UploadsInAll
from demo.visits import Visits
from stylegan_hub.errors import StyleganHubError
from stylegan_hub.memory import keep_freed_memory
from stylegan_hub.methods.fit import PoorFitWarning
from stylegan_hub.ops import kernels
from stylegan_hub.studio import Studio

INTRODUCTION = (
    "Say what should change, or show it in a picture. A slider sets how strong the change is."
)
NOTE = (
    "The bundled portraits are drawings of no real person; any likeness is chance. "
    "With pictures of real people, edit only those who agree to it, and say that a picture is "
    "edited when you share it. A change made with words also brings what the model has learned to "
    "associate with them; look at the picture, not only at the words."
)
_MAX_LETTERS = 10_000  # of a text; CLIP reads far fewer
_HOUR = 3600
_DAY = 24 * _HOUR
_CSS = Path(__file__).with_name("style.css")
_KEYS = Path(__file__).with_name("keys.js")
_DROP = Path(__file__).with_name("drop.js")


class Page(gr.Blocks):
    """gradio's page, the routes that its server answers beside gradio's own, and its visits."""

    routes: Sequence[BaseRoute] = ()
    visits: Visits
    _agents: Any = None

    @property
    def mcp_server_obj(self) -> Any:
        """gradio's server for agents; None without `gradio[mcp]`."""
        return self._agents

    @mcp_server_obj.setter
    def mcp_server_obj(self, server: Any) -> None:
        self._agents = server
        if server is not None:
            programs.keep_tools(server)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """As gradio's own, but a text that is missing is empty, as in a box that was never shown.

        A wrong value from a program is reported to it as its own mistake.

        Raises:
            gr.Error: values that the endpoint does not accept.
        """
        try:
            values = await super().preprocess_data(block_fn, inputs, state, explicit_call)
            return [
                _text_in(widget, value) if isinstance(widget, gr.Textbox) else value
                for widget, value in zip(block_fn.inputs, values, strict=True)
            ]
        except Exception as error:  # whatever a value makes gradio's components raise
            said = (error.message if isinstance(error, gr.Error) else explain(error)).partition(
                "\n"
            )[0]
            why = f"Got values that {block_fn.api_name or block_fn.name} does not take: {said}"
            raise gr.Error(toast(why), print_exception=False) from error


def _text_in(box: gr.Textbox, value: str | None) -> str:
    """The text in a box, empty if it is missing.

    Raises:
        ValueError: a visitor typed so much that splitting it into words would delay others.
    """
    is_typed = box.visible != "hidden"
    if is_typed and value is not None and len(value) > _MAX_LETTERS:
        raise ValueError(f"got a text of {len(value)} letters; at most {_MAX_LETTERS} are taken.")
    return value or ""


def build(studio: Studio, pipelines: Pipelines | None = None, place: str = "") -> Page:
    """The page for one studio; serve it with `launch_options`.

    Args:
        pipelines: others to choose from.
        place: the address of this one among them, see `Pipelines.place_of`.

    Raises:
        ArtifactError: a bundled direction table or text-to-face network is damaged.
    """
    title = f"Change {studio.pipe.neutral} with words"
    with Page(title=title, delete_cache=(_HOUR, _DAY)) as page:
        page.visits = visits = Visits(
            parent=Path(get_upload_folder()),
            uploads=page.upload_file_set,
            seeds=first_seeds(studio.pipe),
            place=place,
            sessions=lambda: getattr(page, "state_holder", None),
        )
        page.routes = [
            *channel.routes(studio, visits),
            *in_browser.routes(studio, visits),
            Route("/gradio_api/deep_link", no_deep_link),
        ]
        with gr.Row(elem_id="head"):
            gr.HTML(f"<header><h1>{escape(title)}</h1><p>{INTRODUCTION}</p></header>")
            has_choice = pipelines is not None and len(pipelines.names) > 1
            menu = gr.Column(scale=0, min_width=200, visible=has_choice)
        with gr.Row(equal_height=False, elem_id="desk"):
            with gr.Column(scale=5, min_width=320, elem_id="result"):
                stage = Stage(studio, visits)
            with gr.Column(scale=5, min_width=320):
                stage.build_chooser()
                heading("Change it")
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Words"):
                        words.build(studio, stage)
                    with gr.Tab("Zoo"):
                        zoo.build(studio, stage, page)
                    with gr.Tab("Essence"):
                        essence.build(studio, stage)
                    with gr.Tab("Local"):
                        local.build(studio, stage)
                    with gr.Tab("Text to face"):
                        text_to_face.build(studio, stage)
                    with gr.Tab("Photo"):
                        photo.build(studio, stage)
                    with gr.Tab("Mix"):
                        mix.build(studio, stage)
                    with gr.Tab("Save as"):
                        save.build(studio, stage)
                    with gr.Tab("Make your own"):
                        make.build(studio, stage)
                    with gr.Tab("Share"):
                        share.build(studio, stage)
                    with gr.Tab("More"):
                        tabbed = (*words.METHODS, *essence.METHODS, *local.METHODS)
                        more.build(studio, stage, tabbed)
        gr.HTML(f"<footer><p>{NOTE}</p><p id='renderer'></p></footer>")
        if pipelines is not None:
            with menu:
                pipelines.menu(place, stage.status)
        Opening(studio, stage, visits).wire(page)
        programs.build(studio, stage)
        stage.wire(page)
        programs.describe(page)
        calm(page)
    visits.sweep_now_and_then()
    return page


def calm(page: gr.Blocks) -> None:
    """Let gradio show its spinner only where a listener names the place (`show_progress_on`).

    Everywhere else the page tells the progress in words. At each step of each event, a browser
    searches all widgets for every one that may show a spinner, which takes tenths of a second.
    """
    for listener in page.fns.values():
        if listener.show_progress_on is None:
            listener.show_progress_on = ()


def opened(pipeline: str, device: str = "auto", runtime: str | None = None) -> Studio:
    """The studio of a page that runs on this machine."""
    if not zerogpu.is_here():
        return Studio.open(pipeline, device, runtime)
    studio = Studio.open(pipeline, "cpu", runtime)
    return Studio(studio.pipe, find=zerogpu.finder(studio.pipe))


def launch_options(page: Page, names: Collection[str] = ()) -> dict[str, Any]:
    """The options for its `launch` that the page's look and behavior depend on.

    Args:
        names: host names that the page answers to besides those of this machine, see `OwnAddress`.
    """
    # gradio says so of the endpoints that `keep_tools` leaves out.
    warnings.filterwarnings("ignore", message="This MCP server includes a tool that has a gr.State")
    files = (in_browser.SCRIPT, channel.SCRIPT, _DROP)
    scripts = [drafts.script(), *(path.read_text(encoding="utf-8") for path in files)]
    return {
        "theme": gr.themes.Soft(
            primary_hue="violet",
            secondary_hue="violet",
            neutral_hue="stone",
            radius_size="lg",
            # Gradio's files of the theme's own font are of two fonts, and its semibold ones of this
            # one lack letters.
            font=(
                gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)),
                "system-ui",
                "sans-serif",
            ),
        ),
        "css_paths": _CSS,
        "head": f'<meta name="description" content="{INTRODUCTION}">'
        f"<script>{''.join(scripts)}</script>",
        "js": _KEYS.read_text(encoding="utf-8"),
        "footer_links": ["api"],
        "mcp_server": programs.has_mcp(),
        "app_kwargs": {
            "routes": page.routes,
            "middleware": [Middleware(OwnAddress, names=names), Middleware(UploadsInAll)],
            "exception_handlers": {
                KeyError: no_endpoint,
                FnIndexInferError: no_endpoint,
                TypeError: wrong_arguments,
            },
        },
        "max_file_size": "16mb",  # a photograph, or eight mappers in a stack
    }


def no_deep_link(_: Request) -> JSONResponse:
    """In place of gradio's address that writes all values of a page into a file that stays."""
    return JSONResponse({"detail": "This page has links of its own: press “Copy link”."}, 404)


def no_endpoint(request: Request, error: Exception) -> JSONResponse:
    """The answer to a program that asks for an endpoint that does not exist."""
    if isinstance(error, KeyError) and not request.url.path.endswith("/queue/join"):
        raise error  # one of ours
    said = "There is no such endpoint; gradio_api/info lists the endpoints."
    return JSONResponse({"detail": said}, 404)


def wrong_arguments(request: Request, error: Exception) -> JSONResponse:
    """The answer to a program that leaves out an argument, or gives an unknown one."""
    if "/call/v2/" not in request.url.path:
        raise error  # one of ours
    said = str(error).partition(". Please")[0]
    return JSONResponse({"detail": f"{said}. gradio_api/info lists the parameters."}, 400)


def launch(
    pipeline: str = "portraits",
    host: str | None = None,
    port: int | None = None,
    *,
    pipelines: Sequence[str] = (),
    root_path: str | None = None,
    device: str = "auto",
    runtime: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Load a pipeline, serve the page and stay until interrupted.

    Args:
        pipelines: more that visitors can choose, by name, folder or Hub id.
        root_path: the path at which a proxy in front serves the page, "/faces".
        host: None for gradio's default: this machine only, unless GRADIO_SERVER_NAME is set.
        port: None for the first free one from 7860.
        device, runtime: as for `StyleEditPipeline.from_pretrained`. With ZeroGPU, pictures are
            rendered on the CPU and searches run on the GPU.
        allow_hosts: host names at which a proxy or a network serves the page,
            "faces.example.org"; "*" for any, see `OwnAddress`.

    Raises:
        SystemExit: the pipeline cannot be loaded; the message says why.
    """
    keep_freed_memory()
    kernels.build_beside()
    warnings.simplefilter("ignore", PoorFitWarning)  # the page shows this in a message
    # However the page ends, it deletes the files that it made for visitors.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if said := use_own_folder():
        print(said)
    listens_at = host or os.environ.get("GRADIO_SERVER_NAME", "")
    known = (listens_at, name_in(root_path or ""), *allow_hosts)
    names = {name.lower() for name in known if name}
    options = partial(launch_options, names=names)
    offered = Pipelines(
        [*dict.fromkeys([pipeline, *pipelines])],
        lambda name: opened(name, device, runtime),
        lambda studio, place: build(studio, offered, place),
        options,
    )
    try:
        studio = offered.open_studio(pipeline)
        page = build(studio, offered)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    offered.app, _, _ = page.launch(
        server_name=host,
        server_port=port,
        root_path=root_path,
        prevent_thread_lock=True,
        # Otherwise gradio gives up if its first page takes 3 s, as on a small or busy machine.
        _frontend=False,
        quiet=True,  # gradio would advise changing the call of launch()
        **options(page),
    )
    print(f"The page is at {page.local_url} (Ctrl-C stops it).", flush=True)
    if page.share_url:  # with GRADIO_SHARE
        print(f"It is public at {page.share_url}.", flush=True)
        names.add(name_in(page.share_url))
    gc.freeze()  # what is loaded now stays: searching it would stop the page for a moment each time
    gc.enable()
    threading.Thread(target=_beside_the_page, args=[studio], daemon=True).start()
    page.block_thread()


def _beside_the_page(studio: Studio) -> None:
    """Work that is done once, while visitors can already use the page."""
    if not zerogpu.is_here():
        with contextlib.suppress(StyleganHubError):  # whoever asks for words will be told
            studio.warm_up()
    studio.pipe.runtime.measure()  # which runtime renders fastest here, for the next start
