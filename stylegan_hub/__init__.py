"""A hub of small, shareable edits for one frozen StyleGAN2, made with words.

Everything public is reached from here and loaded at first use, because the libraries below take
seconds to import:

    import stylegan_hub as hub

    pipe = hub.StyleEditPipeline.from_pretrained("portraits")
    pipe(seed=7).images[0]
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stylegan_hub.version import __version__ as __version__

if sys.platform == "darwin" and "torch" not in sys.modules:
    # PyTorch reads it once, when it is imported: what Apple's GPU lacks is computed on the CPU.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

if TYPE_CHECKING:
    from stylegan_hub import edits, images, methods, portraits
    from stylegan_hub.domain import Domain
    from stylegan_hub.edits.base import Edit, Origin, load_edit
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.edits.latent_mapper import LatentMapper
    from stylegan_hub.edits.stack import EditStack
    from stylegan_hub.hub.list import list_edits
    from stylegan_hub.hub.publish import publish
    from stylegan_hub.latents import Latents, Space
    from stylegan_hub.methods.fit import PoorFitWarning
    from stylegan_hub.methods.method import Method, Nothing, Pairs, Picture, Words
    from stylegan_hub.methods.table import DirectionTable, load_directions
    from stylegan_hub.models.stylegan2 import StyleGAN2Generator
    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.registry import register
    from stylegan_hub.steps import Step
    from stylegan_hub.text_to_face import load_text_to_face

__all__ = [
    "Direction",
    "DirectionTable",
    "Domain",
    "Edit",
    "EditStack",
    "LatentMapper",
    "Latents",
    "Method",
    "Nothing",
    "Origin",
    "Pairs",
    "Picture",
    "PoorFitWarning",
    "Space",
    "Step",
    "StyleEditPipeline",
    "StyleGAN2Generator",
    "Words",
    "edits",
    "images",
    "list_edits",
    "load_directions",
    "load_edit",
    "load_text_to_face",
    "methods",
    "portraits",
    "publish",
    "register",
]

_HOMES = {
    "Direction": "edits.direction",
    "DirectionTable": "methods.table",
    "Domain": "domain",
    "Edit": "edits.base",
    "EditStack": "edits.stack",
    "LatentMapper": "edits.latent_mapper",
    "Latents": "latents",
    "Method": "methods.method",
    "Nothing": "methods.method",
    "Origin": "edits.base",
    "Pairs": "methods.method",
    "Picture": "methods.method",
    "PoorFitWarning": "methods.fit",
    "Space": "latents",
    "Step": "steps",
    "StyleEditPipeline": "pipeline",
    "StyleGAN2Generator": "models.stylegan2",
    "Words": "methods.method",
    "list_edits": "hub",
    "load_directions": "methods.table",
    "load_edit": "edits.base",
    "load_text_to_face": "text_to_face",
    "publish": "hub",
    "register": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
