"""Methods that find edits: one file for each method, and the protocol that they share.

Importing this package registers every method in the folder; `register` adds others.
"""

from importlib import import_module
from pkgutil import iter_modules

from stylegan_hub.methods.method import get, known, register

__all__ = ["get", "known", "register"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
