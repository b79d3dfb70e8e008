"""A pipeline and its edits as one collection on the Hub: each is published, then all are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stylegan_hub import names
from stylegan_hub.artifacts import CARD_NAME, CONFIG_NAME, TENSORS_NAME
from stylegan_hub.hub.cards import LIBRARY, write_card
from stylegan_hub.hub.list import edit_info
from stylegan_hub.hub.publish import check_repo_id, publish, publishing
from stylegan_hub.version import __version__

_MAX_TITLE = 60  # characters that the Hub accepts
_MAX_NOTE = 500


@dataclass(frozen=True)
class Collected:
    """The result of `publish_collection`.

    Attributes:
        url: address of the collection.
        repositories: "user/repo" of each folder, in order.
    """

    url: str
    repositories: tuple[str, ...]


def zoo_of(pipeline: str = "portraits") -> list[str]:
    """Names of a bundled pipeline and of all bundled edits and tables for its generator.

    Raises:
        NotFoundError, ArtifactError: there is no such pipeline.
    """
    names.resolve(pipeline, "pipeline")
    of = [
        name
        for name, folder in names.bundled().items()
        if (folder / TENSORS_NAME).is_file()
        and (folder / CONFIG_NAME).is_file()
        and edit_info(name).base_model == pipeline
    ]
    return [pipeline, *of]


def publish_collection(
    title: str,
    folders: Sequence[str | Path],
    user: str,
    private: bool = False,
    description: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    on_published: Callable[[str, str], None] = lambda repo_id, url: None,
) -> Collected:
    """Publish folders as repositories of one user, and add them to a collection on the Hub.

    An unchanged folder makes no commit, and a collection keeps what it has, so after an
    interruption the same call continues.

    Args:
        title: of the collection, at most 60 characters.
        folders: bundled names or folders: edits, tables, pipelines; see `zoo_of`.
        user: user or organization; folder "afro-hair" becomes "user/afro-hair".
        private: make new repositories and the collection private.
        description: of the collection.
        token, endpoint: as for `publish`.
        on_published: called with each repository and its commit.

    Raises:
        ValueError: no folders, two with one name, or a title that the Hub does not accept.
        NotFoundError, ArtifactError: a folder fails a check; those before it are published.
        PublishError: the Hub refused or could not be reached.
    """
    if not folders or not 0 < len(title.strip()) <= _MAX_TITLE:
        raise ValueError(
            f"Got {len(folders)} folders and a title of {len(title.strip())} letters; expected at "
            f"least one folder and 1 to {_MAX_TITLE} letters."
        )
    found = [names.resolve(folder) for folder in folders]
    ids = [f"{user}/{folder.resolve().name}" for folder in found]
    for repo_id in ids:
        check_repo_id(repo_id)
    if twice := sorted({repo_id for repo_id in ids if ids.count(repo_id) > 1}):
        raise ValueError(f"Got two folders for {', '.join(twice)}; rename one of them.")

    from huggingface_hub import HfApi

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    for folder, repo_id in zip(found, ids, strict=True):
        if (folder / CONFIG_NAME).is_file() and not (folder / CARD_NAME).exists():
            write_card(folder)
        url = publish(folder, repo_id, private=private, token=token, endpoint=endpoint)
        on_published(repo_id, url)
    with publishing(title):
        collection = names.asked_again(
            lambda: api.create_collection(
                title.strip(), namespace=user, description=description, private=private,
                exists_ok=True,
            )
        )  # fmt: skip
        for folder, repo_id in zip(found, ids, strict=True):
            add = partial(
                api.add_collection_item, collection.slug, repo_id, item_type="model",
                note=_note(folder), exists_ok=True,
            )  # fmt: skip
            names.asked_again(add)
    return Collected(str(collection.url), tuple(ids))


def _note(folder: Path) -> str | None:
    """The words that an edit was made for."""
    if not (folder / TENSORS_NAME).is_file() or not (folder / CONFIG_NAME).is_file():
        return None
    prompt = edit_info(folder).prompt
    return prompt[:_MAX_NOTE] if prompt else None
