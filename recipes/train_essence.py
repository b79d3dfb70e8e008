"""Train an essence vector (TargetCLIP): every face takes on the character of a picture.

    accelerate launch recipes/train_essence.py --target docs/targets/zuri.png \\
        --output_dir runs/essence-zuri

    # a drawing or any other picture that the generator cannot render:
    accelerate launch recipes/train_essence.py --target docs/targets/cat.png \\
        --preset out_of_domain --output_dir runs/essence-cat

The target may be any picture; its middle square is used. This is `recipes/train.py essence`; see
there for what it writes, and --help for all options. Earlier names of presets also work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import train
from command_line import plain_errors

NAMES = {"--attributes": ["--target_attributes"]}
PRESETS = {
    "in_domain": "default",
    "in_domain_from_zero": "from_zero",
    "paper_in_domain": "published",
    "paper_out_of_domain": "published_out_of_domain",
}


def main(args: Sequence[str]) -> None:
    """Train an essence with these options."""
    train.main("essence", [PRESETS.get(arg, arg) for arg in train.renamed(args, NAMES)])


if __name__ == "__main__":
    with plain_errors():
        main(sys.argv[1:])
