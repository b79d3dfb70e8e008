"""What goes wrong on purpose, and what many visitors at once do to the page.

python -m tests.faults                      # all of it at length
python -m tests.faults load --help          # one part: fuzz, hub, kills or load
"""

import sys

from tests.faults import fuzz, hub, kills, load

PARTS = {"fuzz": fuzz.main, "hub": hub.main, "kills": kills.main, "load": load.main}

if __name__ == "__main__":
    match sys.argv[1:]:
        case [part, *options] if part in PARTS:
            raise SystemExit(PARTS[part](options))
        case []:
            raise SystemExit(max(part([]) for part in PARTS.values()))
        case _:
            raise SystemExit(f"Got {sys.argv[1]!r}; say one of {', '.join(PARTS)}, or nothing.")
