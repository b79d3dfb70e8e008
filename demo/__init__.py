"""The page: `build` puts it together, a tab is one file in `tabs/`."""

from unittest import mock

# At every import, gradio parses its components and writes stubs of them for editors, which takes
# half of its import. It skips components whose source has no file.
with mock.patch("inspect.getfile", side_effect=OSError):
    import gradio  # noqa: F401
