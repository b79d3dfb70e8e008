"""`stylegan-hub train`."""

from __future__ import annotations

import typer

from stylegan_hub import clone
from stylegan_hub.cli.console import main


# The recipe handles --help, because it knows the settings of each method.
@main.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def train(context: typer.Context) -> None:
    """Train an edit, like `python recipes/train.py` in a clone.

    \b
    Examples:
      stylegan-hub train mapper --text "a face with an afro" --output_dir runs/afro-hair
      stylegan-hub train mapper --help
    """
    clone.run("recipes/train.py", context.args)
