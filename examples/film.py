"""A film of a slider, like that of the command `stylegan-hub film`."""

import stylegan_hub as hub
from stylegan_hub.pictures.films import save_film, sweep
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

studio = Studio(hub.StyleEditPipeline.from_pretrained("portraits"))
start = Session(7)
session = start.with_stack(start.stack.added(hub.load_edit("afro-hair"), name="afro-hair"))
frames = [studio.draw(step)[1] for step in sweep(session, low=0.0, high=1.0, frames=12)]
save_film(frames, "afro.webp")
