"""The page for a Space or a clone: `python app.py`, `python app.py --help`."""

import argparse
import gc
import os

# A page does several things at once: threads that spin while they wait would take the cores from
# its other work, and a search with as many threads as cores is slower than with half of them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))

parser = argparse.ArgumentParser(description="Serve a page that edits faces with sliders.")
parser.add_argument("--pipeline", default="portraits", help="bundled name, folder or Hub id")
parser.add_argument("--host", help="address to listen on; this machine only by default")
parser.add_argument("--port", type=int, help="port; the first free one from 7860 by default")

parser.add_argument(
    "--pipelines", nargs="+", default=[], help="more pipelines that visitors can choose on the page"
)
parser.add_argument("--root-path", help="path of the page at a proxy in front, such as /faces")
parser.add_argument(
    "--allow-host",
    action="append",
    default=[],
    help="host name at which a proxy or a network serves the page, such as faces.example.org; '*' "
    "for any name",
)
parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, mps")
parser.add_argument("--runtime", help="what renders: auto, pytorch, openvino, onnx, or a folder")

if __name__ == "__main__":
    arguments = parser.parse_args()  # before the imports below, which take seconds
    gc.disable()  # it would search all modules again and again while they load; `launch` enables it

    if os.environ.get("SPACES_ZERO_GPU"):
        import spaces  # noqa: F401  before torch, which it changes

    from demo.app import launch

    launch(
        arguments.pipeline,
        arguments.host,
        arguments.port,
        pipelines=arguments.pipelines,
        root_path=arguments.root_path,
        device=arguments.device,
        runtime=arguments.runtime,
        allow_hosts=arguments.allow_host,
    )
