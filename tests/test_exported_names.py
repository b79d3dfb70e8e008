"""The public names are these, all of them can be imported, and `import stylegan_hub` is fast."""

import subprocess
import sys

import pytest

import stylegan_hub

NAMES = stylegan_hub.__all__


def test_all_names_are_listed() -> None:
    assert sorted(NAMES) == NAMES and set(NAMES) <= set(dir(stylegan_hub))
    # What the documents promise.
    assert {"StyleEditPipeline", "load_edit", "publish", "register", "Words", "Pairs"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_can_be_had(name: str) -> None:
    assert getattr(stylegan_hub, name) is not None


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'stylegan_hub' has no attribute 'Latent'"):
        stylegan_hub.Latent  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys, stylegan_hub; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "diffusers", "transformers", "gradio", "PIL"} & set(loaded)
