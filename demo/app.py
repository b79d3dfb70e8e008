"""Puts the page together and serves it. Nothing is fetched from outside."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when imported

import gradio as gr

from demo.components import heading
from demo.stage import Stage
from demo.tabs import essence, local, more, photo, text_to_face, words, zoo
from stylegan_hub.memory import keep_freed_memory
from stylegan_hub.studio import Studio

INTRODUCTION = (
    "Say what should be different or show it in a picture, and slide the change from none to too "
    "much."
)
NOTE = (
    "The bundled portraits are drawings; they show nobody, and a likeness would be chance. "
    "With pictures of real people, edit only those who agree to it, and say that a picture is "
    "edited when you share it. A change by words carries along what the model has learned to see "
    "together; look at the picture, not only at the words."
)
_HOUR = 3600
_CSS = Path(__file__).with_name("style.css")
_KEYS = Path(__file__).with_name("keys.js")


def build(studio: Studio) -> gr.Blocks:
    """The page for one studio; serve it with `launch_options`.

    Raises:
        ArtifactError: a bundled direction table or text-to-face network is damaged.
    """
    title = f"Change {studio.pipe.neutral} by words"
    with gr.Blocks(title=title, delete_cache=(_HOUR, 6 * _HOUR)) as page:
        gr.HTML(f"<header><h1>{escape(title)}</h1><p>{INTRODUCTION}</p></header>")
        with gr.Row(equal_height=False, elem_id="desk"):
            with gr.Column(scale=5, min_width=320, elem_id="result"):
                stage = Stage(studio)
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
                    with gr.Tab("More"):
                        tabbed = (*words.METHODS, *essence.METHODS, *local.METHODS)
                        more.build(studio, stage, tabbed)
        stage.wire(page)
        gr.HTML(f"<footer><p>{NOTE}</p></footer>")
    return page.queue(default_concurrency_limit=4)


def launch_options() -> dict[str, Any]:
    """What `gr.Blocks.launch` needs so that the page looks and behaves as meant."""
    return {
        "theme": gr.themes.Soft(
            primary_hue="violet", secondary_hue="violet", neutral_hue="stone", radius_size="lg"
        ),
        "css_paths": _CSS,
        "head": f'<meta name="description" content="{INTRODUCTION}">',
        "js": _KEYS.read_text(encoding="utf-8"),
        "footer_links": ["api"],
        "max_file_size": "16mb",  # a photograph, or eight mappers in a stack
    }


def launch(pipeline: str = "portraits", host: str | None = None, port: int | None = None) -> None:
    """Load a pipeline, serve the page and stay until interrupted.

    Args:
        host: None for gradio's own choice, this machine only unless GRADIO_SERVER_NAME says else.
        port: None for the first free one from 7860.

    Raises:
        SystemExit: the pipeline cannot be loaded; the message says why.
    """
    keep_freed_memory()
    try:
        page = build(Studio.open(pipeline))
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    page.launch(server_name=host, server_port=port, **launch_options())
