"""A hub of small, shareable edits for one frozen StyleGAN2, steered by words.

Everything public is reached from here and loaded at first use, because the libraries below take
seconds to import:

    import stylegan_hub as hub

    pipe = hub.StyleEditPipeline.from_pretrained("portraits")
    pipe(seed=7).images[0]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stylegan_hub import edits, images, portraits
    from stylegan_hub.edits.base import Edit, load_edit
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.edits.essence import find_essence
    from stylegan_hub.edits.global_direction import DirectionTable, load_directions
    from stylegan_hub.edits.gradient_direction import gradient_direction
    from stylegan_hub.edits.latent_mapper import LatentMapper
    from stylegan_hub.edits.local_direction import find_local_direction
    from stylegan_hub.edits.stack import EditStack
    from stylegan_hub.hub import list_edits, publish
    from stylegan_hub.latents import Latents, Space
    from stylegan_hub.models.stylegan2 import StyleGAN2Generator
    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.text_to_face import load_text_to_face

__all__ = [
    "Direction",
    "DirectionTable",
    "Edit",
    "EditStack",
    "LatentMapper",
    "Latents",
    "Space",
    "StyleEditPipeline",
    "StyleGAN2Generator",
    "edits",
    "find_essence",
    "find_local_direction",
    "gradient_direction",
    "images",
    "list_edits",
    "load_directions",
    "load_edit",
    "load_text_to_face",
    "portraits",
    "publish",
]

_HOMES = {
    "Direction": "edits.direction",
    "DirectionTable": "edits.global_direction",
    "Edit": "edits.base",
    "EditStack": "edits.stack",
    "LatentMapper": "edits.latent_mapper",
    "Latents": "latents",
    "Space": "latents",
    "StyleEditPipeline": "pipeline",
    "StyleGAN2Generator": "models.stylegan2",
    "find_essence": "edits.essence",
    "find_local_direction": "edits.local_direction",
    "gradient_direction": "edits.gradient_direction",
    "list_edits": "hub",
    "load_directions": "edits.global_direction",
    "load_edit": "edits.base",
    "load_text_to_face": "text_to_face",
    "publish": "hub",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
