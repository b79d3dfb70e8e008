"""Mix two faces by coarse, middle and fine styles, or show the way from one to the other.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
from PIL import Image

from demo.components import for_screen, friendly, message, shown, thumbnails
from demo.desk import Desk
from demo.job import Updates
from demo.stage import DRAWING, FILMING, PRIVATE, Stage, random_seeds
from stylegan_hub import mixing
from stylegan_hub.latents import Latents
from stylegan_hub.pictures import encode_film
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

HINTS = {
    "coarse": "Pose and shape of the head.",
    "middle": "Hairstyle and facial features.",
    "fine": "Colors and light.",
}
WAY = 6
"""How many faces the way from one face to the other has."""
_FRAMES = 24
_SECOND = 12


def mixed(studio: Studio, session: Session, seed: float | None, **shares: float) -> Latents:
    """The session's face mixed with that of a seed; see `mixing.mix` for the shares.

    Raises:
        ValueError: a seed that is not a whole number, or a face in s.
    """
    second = _second(studio, session, seed)
    return mixing.mix(studio.pipe, studio.face(session), second, **shares)


def way(studio: Studio, session: Session, seed: float | None, count: int) -> Latents:
    """`count` faces from the session's face to that of a seed; raises like `mixed`."""
    second = _second(studio, session, seed)
    return mixing.interpolate(studio.pipe, studio.face(session), second, count)


def _second(studio: Studio, session: Session, seed: float | None) -> Latents:
    if seed is None or seed % 1 != 0 or seed < 0:
        raise ValueError(f"Got seed {seed}; expected a whole number from 0, such as 12.")
    return studio.face(replace(session.without_edits(), seed=int(seed), latents=None))


def _drawn(studio: Studio, session: Session, face: Latents) -> Image.Image:
    alone = replace(session.without_edits(), latents=face)
    return studio.rendering.picture(alone, moving=True)


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them."""
    levels = mixing.levels(studio.pipe)
    gr.HTML(
        f'<p class="note">Mix this {studio.noun} with the styles of another one. Edits stay on it.'
        "</p>"
    )
    with gr.Row(elem_classes="ask"):
        seed = gr.Number(
            _SECOND, label=f"Seed of the second {studio.noun}", precision=0, minimum=0,
            min_width=120,
        )  # fmt: skip
        roll = gr.Button("Another one", size="md", min_width=80)
    pictures = gr.HTML(label="First, mix and second", min_height=0, elem_id="mix")
    sliders = [
        gr.Slider(
            0, 1, 0, step=0.05, label=f"{name.capitalize()} styles", info=hint, buttons=[],
            visible=name in levels,
        )
        for name, hint in HINTS.items()
    ]  # fmt: skip
    take = gr.Button("Take the mix", variant="primary")
    between = gr.Button(f"Show the way between the {studio.noun}s", size="md")
    faces = thumbnails("The way from the first to the second", "way", WAY, visible=False)
    film = gr.DownloadButton("Save the way as a GIF", size="md", visible=False)

    def shares(values: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(HINTS, values, strict=True))

    def preview(desk: Desk, seed: float, coarse: float, middle: float, fine: float) -> str:
        session = desk.session
        with friendly():
            result = mixed(studio, session, seed, **shares((coarse, middle, fine)))
            second = _second(studio, session, seed)
            drawn = [
                (_drawn(studio, session, studio.face(session)), "The first"),
                (_drawn(studio, session, result), "The mix"),
                (_drawn(studio, session, second), "The second"),
            ]
        figures = "".join(
            f"<figure>{shown(for_screen(picture), label)}<figcaption>{label}</figcaption></figure>"
            for picture, label in drawn
        )
        return f'<div class="pair three">{figures}</div>'

    def follow(desk: Desk, seed: float, coarse: float, middle: float, fine: float) -> str:
        """Like `preview`, but empty if there is nothing to show, as for a face in s."""
        try:
            return preview(desk, seed, coarse, middle, fine)
        except gr.Error as error:
            return message(str(error.message))

    def go(desk: Desk, seed: float, coarse: float, middle: float, fine: float) -> Updates:
        studio.stop(desk.owner)
        with friendly():
            face = mixed(studio, desk.session, seed, **shares((coarse, middle, fine)))
            desk.change(lambda session: replace(session, latents=face, text=None))
        return {
            stage.status: message("The mix is the face now; edits stay on it."),
            **{slider: 0 for slider in sliders},
        }

    def show_way(desk: Desk, seed: float) -> Updates:
        session = desk.session
        with friendly():
            found = way(studio, session, seed, WAY)
            between = way(studio, session, seed, _FRAMES)
        desk.things["way"] = found
        frames = [for_screen(_drawn(studio, session, one)) for one in between]
        data = encode_film([*frames, *frames[-2:0:-1]], "GIF")
        drawn = [desk.picture(_drawn(studio, session, one)) for one in found]
        return {faces: drawn, film: desk.file("way", "way.gif", data)}

    def choose(desk: Desk, event: gr.SelectData) -> str:
        studio.stop(desk.owner)
        with friendly():
            if (found := desk.things.get("way")) is None:
                raise ValueError("Got no way between faces; show it again.")
        face = found[event.index]
        desk.change(lambda session: replace(session, latents=face, text=None))
        return message("This is the face now; edits stay on it.")

    desk, asked = stage.desk, [stage.desk, seed, *sliders]
    roll.click(lambda: random_seeds(1)[0], None, seed, **PRIVATE)
    gr.on(
        [seed.change, *(slider.input for slider in sliders)],
        preview,
        asked,
        pictures,
        trigger_mode="always_last",
        api_name="mix",
        **DRAWING,
    )
    stage.follow(follow, asked, [pictures])
    taken = take.click(go, asked, [stage.status, *sliders], api_name="take_mix")
    stage.then_show(taken)
    found = between.click(show_way, [desk, seed], [faces, film], api_name="way", **FILMING)
    found.success(
        lambda: (gr.Gallery(visible=True, selected_index=None), gr.DownloadButton(visible=True)),
        None,
        [faces, film],
        queue=False,
        **PRIVATE,
    )
    stage.then_show(faces.select(choose, desk, stage.status, **PRIVATE))
