"""Files to keep: pictures that store how they were made (`recipe`), `sheets` and `films`.

    import stylegan_hub as hub
    from stylegan_hub import pictures
    from stylegan_hub.session import Session
    from stylegan_hub.studio import Studio

    studio = Studio.open("portraits")
    session = Session(seed=7).with_edit(hub.load_edit("afro-hair"), name="afro-hair")
    pictures.save_picture(studio.pipe, session, "face.png", studio.draw(session)[1])
    frames = [studio.draw(one)[1] for one in pictures.sweep(session)]
    pictures.save_film(frames, "sweep.mp4", pictures.recipe_of(studio.pipe, session))

`open_picture` gives the session back.
"""

from stylegan_hub.pictures.films import FILMS, encode_film, save_film, sweep, walk
from stylegan_hub.pictures.recipe import (
    Recipe,
    Used,
    encode,
    marked,
    open_picture,
    read_recipe,
    recipe_of,
    save_picture,
    stack_bytes,
)
from stylegan_hub.pictures.sheets import alpha_beta, before_after, titled_grid

__all__ = [
    "FILMS",
    "Recipe",
    "Used",
    "alpha_beta",
    "before_after",
    "encode",
    "encode_film",
    "marked",
    "open_picture",
    "read_recipe",
    "recipe_of",
    "save_film",
    "save_picture",
    "stack_bytes",
    "sweep",
    "titled_grid",
    "walk",
]
