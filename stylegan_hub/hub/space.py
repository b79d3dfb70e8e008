"""A folder that is a complete Space: the page with one pipeline and selected edits.

The folder contains the page, this library and the cards, all as files: a Space starts from a
read-only checkout, and while it runs nothing is downloaded except edits from the Hub. Its header
requests ZeroGPU and the visitor's own login, with which visitors publish their edits.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stylegan_hub import clone, names
from stylegan_hub.artifacts import CONFIG_NAME, RUN_FILES, STALE_NAME, TENSORS_NAME, write_bytes
from stylegan_hub.errors import ArtifactError
from stylegan_hub.hub.cards import LIBRARY
from stylegan_hub.hub.list import edit_info
from stylegan_hub.hub.publish import check_repo_id, publishing
from stylegan_hub.storage import real, staged
from stylegan_hub.version import __version__

Hardware = Literal["zero-a10g", "cpu-basic"]
Sdk = Literal["gradio", "static"]
PYTHON = "3.12.12"
"""The Python version of ZeroGPU that this library supports."""
_LIBRARY = Path(__file__).parents[1]
# What the page needs besides the library.
_PAGE = ("demo", "requirements.txt", "LICENSE", "docs/targets")
_LEFT_OUT = ("__pycache__", "*.pyc", "_cards", "_clone", ".*")
_LEFT_OUT_OF_CARDS = (*_LEFT_OUT, *RUN_FILES, STALE_NAME)
_APP = '''"""The page, as this Space starts it. Written by `stylegan-hub space`."""

import os

# A Space's checkout is read-only; compiled files and downloads go to the system's folders.
os.environ.setdefault("STYLEGAN_HUB_CARDS", os.path.join(os.path.dirname(__file__), "cards"))

try:
    import spaces  # ZeroGPU; it must come before anything that asks for a GPU
except ImportError:
    pass

from demo.app import launch

if __name__ == "__main__":
    launch("{pipeline}")
'''
_README = """# {title}

Say what should change about {neutral}, or show it in a picture. A slider sets how strong the change
is. Made with [stylegan-hub](https://huggingface.co/models?library={library}) \
{version}.

{listed}

Nothing that you do here is kept for longer than a day. With pictures of real people, edit only
those who agree to it, and say that a picture is edited when you share it: the metadata of saved
pictures says so.
"""


@dataclass(frozen=True)
class Space:
    """The result of `write_space`.

    Attributes:
        folder: the Space.
        pipeline: the name under which the page opens it.
        edits: names of the edits in it.
    """

    folder: Path
    pipeline: str
    edits: tuple[str, ...]


def write_space(
    folder: str | Path,
    pipeline: str = "portraits",
    edits: Sequence[str] | None = None,
    title: str | None = None,
    hardware: Hardware = "zero-a10g",
    token: str | None = None,
) -> Space:
    """Write a Space: app.py, README.md with its header, requirements, the page and the cards.

    Args:
        folder: new or empty, or an earlier result, which is replaced.
        pipeline: bundled name or folder, which is copied into the Space; or a Hub id, which the
            Hub itself downloads when it builds the Space.
        edits: bundled names, folders or Hub ids, all copied; None for all bundled edits for the
            pipeline's generator.
        title: of the Space; None for the folder's name.
        hardware: that the header requests.
        token: for private or gated edits; None for the saved login.

    Raises:
        ArtifactError: the folder holds something else.
        NotFoundError: a name that does not exist.
        MismatchError: an edit for another generator.
        StorageError: the disk refuses. After any error an earlier result is still there.
    """
    folder = Path(folder)
    title = title or folder.resolve().name
    with replaced(folder, "gradio") as new:
        cards = new / "cards"
        name, base, neutral = _put_pipeline(pipeline, cards, token)
        chosen = bundled_for(base) if edits is None else list(edits)
        kept = tuple(_put_edit(edit, base, cards, token) for edit in chosen)
        _put_parts(base, cards)
        _copy(_LIBRARY, new / "stylegan_hub")
        for part in _PAGE:
            _copy(clone.root() / part, new / part)
        # The header asks for a login and promises an MCP server; both are extras of gradio.
        needed = (new / "requirements.txt").read_text(encoding="utf-8")
        needed = needed.replace("\ngradio==", "\ngradio[mcp,oauth]==")
        write_bytes(new / "requirements.txt", needed.encode())
        write_bytes(new / "app.py", _APP.format(pipeline=name).encode())
        header = _header(title, pipeline, hardware)
        listed = f"Edits in this Space: {', '.join(kept)}." if kept else ""
        text = _README.format(
            title=title, neutral=neutral, library=LIBRARY, version=__version__, listed=listed
        )
        write_bytes(new / "README.md", f"---\n{header}---\n\n{text}".encode())
    return Space(folder, name, kept)


def push_space(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Publish the folder of a Space on the Hub as one commit; returns the Space's address.

    Args:
        folder: as `write_space` or `browser.static_page.write_static_page` wrote it.
        repo_id: "user/name"; created if it does not exist. Files that are only there are deleted.
        private: make a new Space private.
        token, endpoint: as for `publish`.

    Raises:
        ArtifactError: the folder is not a Space of this library.
        ValueError: repo_id is not "user/name".
        PublishError: the Hub refused or could not be reached; nothing was changed there.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    sdk = space_sdk(folder)
    if sdk is None:
        raise ArtifactError(f"{folder} is not a Space; write it with write_space first.")

    from huggingface_hub import HfApi

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    with publishing(repo_id):
        names.asked_again(
            lambda: api.create_repo(
                repo_id, repo_type="space", space_sdk=sdk, private=private, exist_ok=True
            )
        )
        names.asked_again(
            lambda: api.upload_folder(
                folder_path=folder,
                repo_id=repo_id,
                repo_type="space",
                commit_message=f"Write the Space with {LIBRARY} {__version__}",
                delete_patterns="*",
            )
        )
    return f"{api.endpoint}/spaces/{repo_id}"


def space_sdk(folder: Path) -> Sdk | None:
    """The SDK of the Space in this folder; None if this library did not write it."""
    marks: tuple[tuple[Sdk, str, str], ...] = (
        ("gradio", "app.py", "Written by `stylegan-hub space`"),
        ("static", "index.html", 'content="stylegan-hub space --static"'),
    )
    if not (folder / "README.md").is_file():
        return None
    for sdk, name, mark in marks:
        start = folder / name
        if start.is_file() and mark in start.read_text(encoding="utf-8", errors="replace"):
            return sdk
    return None


@contextmanager
def replaced(folder: Path, sdk: Sdk) -> Iterator[Path]:
    """A new folder to write a Space to; at the end it takes the place of an earlier one.

    If the body raises, nothing has changed.

    Raises:
        ArtifactError: the folder holds something else than a Space of the same SDK.
        StorageError: the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if space_sdk(folder) != sdk:
            raise ArtifactError(
                f"{folder} holds something else; nothing was written.",
                remedy="Choose another folder, or move its contents away.",
            )
    with staged(folder) as new:
        yield new
        if folder.is_dir():
            shutil.rmtree(real(folder))


def _put_pipeline(pipeline: str, cards: Path, token: str | None) -> tuple[str, str, str]:
    """Copy the pipeline; returns its name in the Space, its fingerprint and its neutral."""
    from stylegan_hub.pipeline import StyleEditPipeline

    source = names.resolve(pipeline, "pipeline", token=token)
    loaded = StyleEditPipeline.from_pretrained(source)
    base, neutral = loaded.base_model.fingerprint, loaded.neutral
    is_on_hub = pipeline not in names.bundled() and not Path(pipeline).is_dir()
    if is_on_hub:
        return pipeline, base, neutral
    _copy(source, cards / source.resolve().name, _LEFT_OUT_OF_CARDS)
    return source.resolve().name, base, neutral


def bundled_for(fingerprint: str) -> list[str]:
    """Names of the bundled edits of a generator."""
    return [name for name in names.bundled("edit") if edit_info(name).fingerprint == fingerprint]


def _put_edit(edit: str, fingerprint: str, cards: Path, token: str | None) -> str:
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.errors import MismatchError

    own = load_edit(edit, token=token).base_model
    if own.fingerprint != fingerprint:
        raise MismatchError(
            f"The edit {edit!r} was made for {own}; the pipeline's generator has the fingerprint "
            f"{fingerprint}. Leave it out, or choose its pipeline."
        )
    source = names.resolve(edit, "edit", token=token)
    repo = names.hub_id(edit)
    is_on_hub = edit not in names.bundled() and not Path(edit).is_dir() and repo is not None
    name = repo.partition("@")[0].rpartition("/")[2] if is_on_hub and repo else (
        source.resolve().name
    )  # fmt: skip
    _copy(source, cards / name, _LEFT_OUT_OF_CARDS)
    return name


def _put_parts(fingerprint: str, cards: Path) -> None:
    """Copy what the page uses besides edits: tables and networks for this generator, and models."""
    for name, folder in names.bundled().items():
        kind = names.kind_of(folder)
        if kind is None or kind.family in (names.EDIT, "pipeline"):
            continue
        is_artifact = (folder / TENSORS_NAME).is_file() and (folder / CONFIG_NAME).is_file()
        if not is_artifact or edit_info(name).fingerprint in (None, fingerprint):
            _copy(folder, cards / name, _LEFT_OUT_OF_CARDS)


def _copy(source: Path, target: Path, left_out: Sequence[str] = _LEFT_OUT) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignored = shutil.ignore_patterns(*left_out)
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    elif source.is_file():
        shutil.copy2(source, target)


def _header(title: str, pipeline: str, hardware: Hardware) -> str:
    from huggingface_hub import SpaceCardData

    is_on_hub = pipeline not in names.bundled() and not Path(pipeline).is_dir()
    repo = names.hub_id(pipeline) if is_on_hub else None
    fields: dict[str, Any] = {
        "title": title,
        "emoji": "🎭",
        "colorFrom": "yellow",
        "colorTo": "purple",
        "sdk": "gradio",
        "sdk_version": _pinned("gradio"),
        "python_version": PYTHON,
        "app_file": "app.py",
        "suggested_hardware": hardware,
        "hf_oauth": True,
        "hf_oauth_scopes": ["manage-repos"],
        "license": "apache-2.0",
        "tags": ["stylegan2", "image-editing", LIBRARY, "mcp-server"],
        "short_description": "Say what should change in a picture, then move a slider.",
    }
    if repo is not None:
        fields |= {"models": [repo.partition("@")[0]], "preload_from_hub": [repo.replace("@", " ")]}
    return f"{SpaceCardData(**fields).to_yaml()}\n"


def _pinned(package: str) -> str:
    """The version of a package that requirements.txt names."""
    for line in (clone.root() / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition("==")
        if equals and name.strip() == package:
            return version.strip()
    raise ArtifactError(
        f"requirements.txt in {clone.root()} does not pin {package}.",
        remedy="Restore the file as it was published.",
    )
