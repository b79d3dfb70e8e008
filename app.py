"""The page, as a Space or a clone starts it: `python app.py`, `python app.py --help`."""

import argparse

parser = argparse.ArgumentParser(description="Say what should change about a face, and slide it.")
parser.add_argument("--pipeline", default="portraits", help="bundled name, folder or Hub id")
parser.add_argument("--host", help="address to listen at; only this machine by default")
parser.add_argument("--port", type=int, help="port; the first free one from 7860 by default")

if __name__ == "__main__":
    arguments = parser.parse_args()  # before the imports below, which take seconds

    from demo.app import launch

    launch(arguments.pipeline, arguments.host, arguments.port)
