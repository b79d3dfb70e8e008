"""Train a latent mapper (StyleCLIP, section 5): one edit, described in words, for every face.

    accelerate launch recipes/train_mapper.py --description "a face with an afro" \\
        --target hair_style=afro --output_dir runs/afro-hair

This is `recipes/train.py mapper` with earlier names of its options; see there for what it writes,
and --help for all options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import train
from command_line import plain_errors

from stylegan_hub.methods.mapper import LEVELS

NAMES = {
    "--description": ["--text"],
    "--target": ["--target_attributes"],
    "--published": ["--preset", "published"],
}


def main(args: Sequence[str]) -> None:
    """Train a mapper with these options."""
    args = train.renamed(args, NAMES)
    off = [level for level in LEVELS if f"--no_{level}_mapper" in args]
    if off:
        args = [arg for arg in args if arg not in {f"--no_{level}_mapper" for level in off}]
        args += ["--levels", *(level for level in LEVELS if level not in off)]
    train.main("mapper", args)


if __name__ == "__main__":
    with plain_errors():
        main(sys.argv[1:])
