"""Edits: the kinds of edits, and the stack in which they are applied.

Importing this package registers the library's own kinds; `base.register` adds others.
"""

from stylegan_hub.edits import combined, direction, instant, latent_mapper, limited

__all__ = ["combined", "direction", "instant", "latent_mapper", "limited"]
