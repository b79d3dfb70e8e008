"""Upload the folder of an edit, a direction table or a pipeline to the Hub as one commit.

    python recipes/publish.py --folder runs/afro-hair --repo_id me/afro-hair
    python recipes/publish.py --folder runs/afro-hair --repo_id me/afro-hair --private

Log in first with `hf auth login`, or set HF_TOKEN. The folder is checked before the upload. An edit
or a table without a card gets one, written from its config.json, metrics.json and images/.
`stylegan-hub publish` does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub import hub
from stylegan_hub.artifacts import CONFIG_NAME


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to upload, and where."""

    folder: Path
    """Folder to upload."""
    repo_id: str
    """Repository on the Hub, user/repo. It is created if it does not exist."""
    private: bool = False
    """Make a new repository private."""
    message: str | None = None
    """Commit message."""
    parent_commit: str | None = None
    """Refuse if the repository is no longer at this commit."""


def main(config: Config) -> None:
    try:
        is_edit = (config.folder / CONFIG_NAME).is_file()
        if is_edit and not (config.folder / hub.CARD_NAME).exists():
            print(f"Wrote {hub.write_card(config.folder)}.")
        url = hub.publish(
            config.folder,
            config.repo_id,
            config.private,
            config.message,
            parent_commit=config.parent_commit,
        )
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"Published: {url}")


if __name__ == "__main__":
    run(main, Config, __doc__)
