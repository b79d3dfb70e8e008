"""Faults on purpose, and the page under many visitors at once.

python -m tests.faults                      # all of it at length
python -m tests.faults --briefly            # all of it but the load, in a minute or two
python -m tests.faults load --help          # one part: disks, fuzz, hub, kills or load
"""

import sys

from tests.faults import disks, fuzz, hub, kills, load

PARTS = {
    "kills": kills.main,
    "disks": disks.main,
    "hub": hub.main,
    "fuzz": fuzz.main,
    "load": load.main,
}
BRIEF = {
    "kills": ["--count", "2"],
    "disks": ["--count", "3"],
    "hub": ["--way", "lost"],
    "fuzz": ["--executions", "400"],
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case [part, *options] if part in PARTS:
            raise SystemExit(PARTS[part](options))
        case []:
            raise SystemExit(max(part([]) for part in PARTS.values()))
        case ["--briefly"]:
            raise SystemExit(max(PARTS[part](options) for part, options in BRIEF.items()))
        case ["-h" | "--help"]:
            print(__doc__)
        case _:
            raise SystemExit(f"Got {sys.argv[1]!r}; say one of {', '.join(PARTS)}, or nothing.")
