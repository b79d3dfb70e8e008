"""The page for programs: what each endpoint does, and the endpoints that no widget has.

A program talks to `/gradio_api/call/v2/NAME` with named values, or uses gradio_client. `render`
and `picture` stand alone; the others work on the face of their session, as the widgets of a visitor
do. An agent has no session, so `picture` is its only tool, if `gradio[mcp]` is installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gradio as gr

from demo import link
from demo.components import friendly
from demo.desk import Desk
from demo.finding import Wanted, search
from demo.frames import SLOTS
from demo.job import Updates
from demo.open_choices import texts as names
from demo.stage import DRAWING, FILMING, Stage
from demo.upload import read, receive
from stylegan_hub import pictures
from stylegan_hub.methods.method import Words
from stylegan_hub.photos.person import invert_photo
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

TOOLS = ("picture",)
"""Endpoints that need no session and return one thing, as gradio's tools of agents must."""

DESCRIPTIONS = {
    "render": "Render a face with edits: from a seed, or from a photograph, which is inverted "
    "first. Needs no earlier call and changes no session. Edits are names, each with a strength: "
    "afro-hair:1.2; edits are found for texts: a face with a hat:0.8. Returns a PNG with its "
    "recipe.",
    "picture": "As render, but returns only the picture: a face of a seed or a photograph, with "
    "edits by their names (afro-hair:1.2) or in words (a face with a hat:0.8).",
    "face": "Take the face of a seed; the edits of the session stay on it.",
    "label": "Take the face of a class, if the generator has classes.",
    "strength": "Set the strength of an edit on the face; 0 changes nothing.",
    "region": "Let an edit on the face change only one part of the picture.",
    "edit": "Find a change described in words and apply it to the face.",
    "refine": "Search for a closer match to the words, for this face alone.",
    "channels": "Let the newest change for every face move fewer or more channels.",
    "apply": "Apply a saved edit to the face: a bundled name, or user/repo on the Hub.",
    "target": "Send the picture whose essence should be found.",
    "essence": "Find the essence of the target, for every face.",
    "others": "Show the newest essence on other faces.",
    "part": "Mark the part of the face that words or names describe.",
    "local": "Change one part of the face only.",
    "text_to_face": "Make new faces that fit a text.",
    "photo": "Send a photograph; the page looks for faces in it.",
    "square": "Choose which face of the photograph is meant.",
    "points": "Say where the face is: both eyes and the mouth, in pixels.",
    "invert": "Find the latent that renders the face of the photograph, and take that face.",
    "neutral": "Give the face of the photograph a neutral expression first.",
    "paste": "Paste the edited face back into the photograph.",
    "find": "Find an edit by any other method: words, a picture, pairs, or nothing.",
    "save_stack": "Return the face and its edits as one file.",
    "load_stack": "Load the face and edits from such a file, or from a PNG that was saved here.",
    "mix": "Show the face mixed with that of another seed, by coarse, middle and fine styles.",
    "take_mix": "Take the mix as the face.",
    "way": "Render the way from the face to that of another seed, also as a GIF.",
    "take_away": "Return a file of the face: picture, strip, film or grid.",
    "make": "Start to train an edit of your own in the background.",
    "my_edit": "Look at one of your own edits and the progress of its training.",
    "cancel": "Stop a training; it can be continued.",
    "go_on": "Continue a training that was stopped.",
    "put_on": "Apply one of your own edits to the face.",
    "card": "Write the card and the folder of an edit.",
}
"""What each endpoint does, for programs and agents."""
_MAX_TEXTS = 8


def rendered(
    studio: Studio,
    seed: float = 0,
    psi: float = 0.7,
    photo: str | None = None,
    edits: list[str] | None = None,
    texts: list[str] | None = None,
    mark: bool = False,
    owner: object = None,
) -> tuple[Session, bytes]:
    """Render a face with edits, independent of any session: its caption and the bytes of its PNG.

    Args:
        seed: of the face, if there is no photograph.
        psi: truncation of the seed, 0 to 1.
        photo: path of a photograph; its largest face is inverted.
        edits: "name", "name:strength" or "name:strength:region".
        texts: what the picture should show, "text" or "text:strength".
        mark: whether to write into a corner that the picture is edited.

    Raises:
        ValueError: an invalid seed, edit or text; no face in the photograph.
    """
    asked = [*(("edit", edit) for edit in edits or ()), *(("text", text) for text in texts or ())]
    if len(asked) > SLOTS:
        raise ValueError(f"Got {len(asked)} edits and texts; at most {SLOTS} are allowed.")
    found = link.read(link.query([("seed", f"{seed:g}"), ("psi", f"{psi:g}"), *asked]))
    if found.problems:
        raise ValueError(" ".join(found.problems))
    session = found.face or Session()
    if photo is not None:
        session = _of_photo(studio, photo)
    for change in found.changes:
        if change.is_text:
            request = Words(change.what)
            method = studio.method_for(session, request, every_face=True)
            steps = search(studio, session, Wanted(request, method.name, True), owner=owner)
            edit, name = _last(steps).edits[0], None
        else:
            edit, name = studio.load(change.what), change.what
        strength = edit.strength.default if change.strength is None else change.strength
        stack = session.stack.added(edit, strength, change.region, name)
        session = session.with_stack(stack)
    _, picture = studio.draw(session)
    picture = pictures.marked(picture) if mark else picture
    recipe = pictures.recipe_of(studio.pipe, session)
    return session, pictures.encode(picture, recipe, "PNG", pictures.stack_bytes(session))


def _of_photo(studio: Studio, file: str) -> Session:
    path = Path(file)
    try:
        upload = receive(studio.pipe, path)
        photo = read(path)
        alignment = upload.alignment(studio.pipe, photo)
        person = invert_photo(studio.pipe, photo, alignment)
    finally:
        path.unlink(missing_ok=True)  # nothing else needs it
    return Session(latents=person.latents)


def _last(steps: Any) -> Any:
    """The result of a search."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            if end.value is None:
                raise ValueError("The search was stopped.") from end
            return end.value


def build(studio: Studio, stage: Stage) -> None:
    """Build the endpoints that no widget has; hidden widgets describe their values."""
    with gr.Column(visible=False):
        seed = gr.Number(0, label="Seed of the face", precision=0, minimum=0)
        psi = gr.Number(0.7, label="Truncation of the seed, 0 to 1", minimum=0, maximum=1)
        photo = gr.Image(label="A photograph in place of the seed", type="filepath")
        edits = names("Names of edits, each with :strength")
        texts = names("Texts of what the picture should show, each with :strength")
        mark = gr.Checkbox(label="Write “edited” into a corner")
        draw, draw_only = gr.Button("Render"), gr.Button("Render only the picture")
        picture = gr.Image(label="The picture, a PNG with its recipe", type="filepath")
        said = gr.Textbox(label="What it is")
        place = gr.Number(1, label="Which edit on the face, counted from 1", precision=0, minimum=1)
        strength = gr.Number(1, label="Its strength")
        region = gr.Dropdown(
            [("Everywhere", ""), *studio.regions], value="", label="The part that it changes"
        )
        set_strength, set_region = gr.Button("Set strength"), gr.Button("Set region")

    def render(
        desk: Desk,
        seed: int,
        psi: float,
        edits: list[str],
        texts: list[str],
        mark: bool,
        photo: str | None = None,
    ) -> Updates:
        """Render a face with edits, independent of any session.

        Args:
            seed: of the face, if there is no photograph: a whole number from 0.
            psi: 1 keeps the full variety of seeds, 0 is the average face.
            edits: bundled names or user/repo on the Hub, each with a strength: afro-hair:1.2.
            texts: what the picture should show, each with a strength: a face with a hat:0.8.
            mark: whether to write into a corner that the picture is edited.
            photo: a photograph with a face, in place of the seed.
        """
        with friendly():
            drawn, data = rendered(
                studio, seed, psi, photo, edits, texts, mark, ("render", desk.owner)
            )
        recipe = pictures.recipe_of(studio.pipe, drawn)
        file = desk.file if photo is None else desk.photo_file
        return {picture: file("render", f"{drawn.title}.png", data), said: recipe.sentence}

    def only_picture(
        desk: Desk,
        seed: int,
        psi: float,
        edits: list[str],
        texts: list[str],
        mark: bool,
        photo: str | None = None,
    ) -> object:
        """Render a face with edits, from a seed or a photograph.

        Args:
            seed: of the face, if there is no photograph.
            psi: truncation of the seed, 0 to 1.
            edits: names of edits, each with a strength: "afro-hair:1.2".
            texts: what the picture should show, each with a strength: "a face with a hat:0.8".
            mark: whether to write into a corner that the picture is edited.
            photo: a photograph whose largest face is inverted.
        """
        return render(desk, seed, psi, edits, texts, mark, photo)[picture]

    def strength_of(desk: Desk, place: int, strength: float) -> tuple[object, ...]:
        """Set the strength of an edit on the face.

        Args:
            place: which edit, counted from 1.
            strength: 0 changes nothing; below 0 gives the opposite.
        """
        return stage.set_strength(desk, int(place) - 1, strength)

    def region_of(desk: Desk, place: int, region: str) -> tuple[object, ...]:
        """Let an edit on the face change only one part of the picture.

        Args:
            place: which edit, counted from 1.
            region: name of the part; empty for everywhere.
        """
        return stage.set_region(desk, int(place) - 1, region)

    desk = stage.desk
    asked = [desk, seed, psi, edits, texts, mark, photo]
    draw.click(render, asked, [picture, said], api_name="render", **FILMING)
    draw_only.click(only_picture, asked, picture, api_name="picture", **FILMING)
    set_strength.click(
        strength_of, [desk, place, strength], stage.drawn, api_name="strength", **DRAWING
    )
    if studio.regions:
        set_region.click(
            region_of, [desk, place, region], stage.drawn, api_name="region", **DRAWING
        )


def describe(page: gr.Blocks) -> None:
    """Give every endpoint its description; call it after all of them exist.

    Raises:
        KeyError: an endpoint without a description.
    """
    for function in page.fns.values():
        if function.api_visibility == "public":
            function.api_description = DESCRIPTIONS[str(function.api_name)]


def keep_tools(server: Any) -> None:
    """Offer agents only the endpoints that need no session.

    Args:
        server: gradio's `GradioMCPServer`, which makes a tool of every endpoint.
    """
    endpoints = server.tool_to_endpoint.values()
    server.tool_to_endpoint = {name: f"/{name}" for name in TOOLS if f"/{name}" in endpoints}


def has_mcp() -> bool:
    """Whether the page can be an MCP server: `pip install stylegan-hub[mcp]`."""
    return importlib.util.find_spec("mcp") is not None
