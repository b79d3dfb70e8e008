"""The version of the library, which artifacts record."""

__version__ = "0.2.0"
