"""Published checkpoints of other projects, read as models of this library or as plain tensors.

This is the only package that reads pickles; it executes nothing in them.
"""

from stylegan_hub.checkpoints.files import read_checkpoint
from stylegan_hub.checkpoints.generator import load_generator

__all__ = ["load_generator", "read_checkpoint"]
