"""Foreign checkpoints: what others publish, as our models and as plain tensors.

The only folder that reads pickles, and it runs nothing that is in them.
"""

from stylegan_hub.checkpoints.files import read_checkpoint
from stylegan_hub.checkpoints.generator import load_generator

__all__ = ["load_generator", "read_checkpoint"]
