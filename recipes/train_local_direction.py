"""Train a local edit (LELSD, eCLIPsed): only one part of the face changes as the words say.

    accelerate launch recipes/train_local_direction.py --prompt "a face with curly hair" \\
        --target hair_style=curly --output_dir runs/curly-hair

    # another region than the words name; only some layers; learned only from these faces (with
    # --face 7, the edit is for this one face):
    accelerate launch recipes/train_local_direction.py --prompt "a face with an afro" \\
        --region "hair, hat" --layers 0 1 2 3 4 5 --seeds 7 8 --output_dir runs/afro

    # no words: three different ways to change the mouth (LELSD)
    accelerate launch recipes/train_local_direction.py --region mouth --directions 3 \\
        --output_dir runs/mouth

The chosen region is printed and stored. This is `recipes/train.py local` with earlier names of its
options; see there for what it writes, and --help for all options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import train
from command_line import plain_errors

NAMES = {
    "--prompt": ["--text"],
    "--target": ["--target_attributes"],
}


def main(args: Sequence[str]) -> None:
    """Train a local edit with these options."""
    args = train.renamed(args, NAMES)
    published = "published" if "--text" in args else "published_without_words"
    train.main("local", train.renamed(args, {"--paper": ["--preset", published]}))


if __name__ == "__main__":
    with plain_errors():
        main(sys.argv[1:])
