"""Many visitors move sliders at once: how long they wait, and whether their pictures are right.

    python -m tests.faults load                             # the three loads below, 70 minutes
    python -m tests.faults load --loads 16:0:300            # 16 users without pause, 5 minutes
    python -m tests.faults load --loads 50:3-8:300 10:0:3600

A load is USERS:THINKING:SECONDS. The page is served in its own process. Each user has their own
face and edit, requests the picture at some strength over HTTP, waits for it, thinks for a random
time in the range THINKING (seconds), and requests the next one. Afterwards, every picture is
rendered alone and compared with the answer under load: moving pictures are rendered several at a
time, which may change a value by one step of 255, and JPEG by a few more.

It prints, and writes with --output: percentiles of the time between request and picture, pictures
per second, the slowest and the fastest user's median (fairness), memory of the server after 50 and
after all pictures, processor time of the users themselves, and the number of wrong pictures. The
exit status is 1 if a picture was wrong or a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

LOADS = ("16:0:300", "50:3-8:300", "10:0:3600")
STRENGTHS = tuple(round(-1 + 0.25 * step, 2) for step in range(13))
# Of 255: pictures of two strengths differ by more somewhere, JPEGs of one strength by less.
UNLIKE = 12
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Load:
    """Number of users, seconds of thinking from and to, seconds in all."""

    users: int
    thinking: tuple[float, float]
    seconds: float

    @classmethod
    def parsed(cls, text: str) -> Load:
        """Of the form USERS:THINKING:SECONDS.

        Raises:
            ValueError: another form, or numbers below their minimum.
        """
        users, thinking, seconds = text.split(":")
        first, _, last = thinking.partition("-")
        load = cls(int(users), (float(first), float(last or first)), float(seconds))
        if load.users < 1 or load.seconds <= 0 or not 0 <= load.thinking[0] <= load.thinking[1]:
            raise ValueError(f"Got the load {text!r}; expected for instance 16:0:300.")
        return load


@dataclass
class Seen:
    """What the users received.

    Attributes:
        waits: seconds of each answer, by user.
        pictures: the bytes of the answers by user and strength; equal ones are kept once.
        failures: answers without a picture.
    """

    waits: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    pictures: defaultdict[tuple[int, float], set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )
    failures: list[str] = field(default_factory=list)


class Server:
    """The page in its own process, with a desk for each user."""

    def __init__(self, pipeline: str, users: int) -> None:
        command = [sys.executable, "-m", "tests.faults.load", "--serve", str(users), pipeline]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                told = json.loads(line)
                self.url: str = told["url"]
                self.channels: list[str] = told["channels"]
                return
        self.close()
        raise SystemExit("The page did not start; its own message is above.")

    def megabytes(self) -> float:
        """Memory that the process holds."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def close(self) -> None:
        """End the process."""
        with self._process:  # leaving the block closes the pipes to it
            self._process.terminate()
            self._process.wait(30)


def serve(users: int, pipeline: str) -> None:
    """The server's process: open the page and a desk for each user, and report the address."""
    import torch

    from demo.app import build, launch_options
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.studio import Studio

    studio = Studio.open(pipeline)
    page = build(studio)
    base = studio.pipe.base_model
    codes = studio.pipe.sample(range(2048)).codes.float()
    channels = []
    desks = []
    for user in range(users):
        random_ = torch.Generator().manual_seed(user)
        toward = codes[int(torch.randint(len(codes), (1,), generator=random_))] - codes.mean(0)
        edit = Direction(toward.expand(base.num_ws, -1).clone(), "w_plus", base)
        desk = page.visits.open(None).desk
        desk.change(lambda session, user=user: session.with_seed(user))
        desk.change(lambda session, edit=edit: session.with_edit(edit))
        channels.append(desk.channel)
        desks.append(desk)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options(page))
    print(json.dumps({"url": url.rstrip("/"), "channels": channels}), flush=True)
    sys.stdin.read()


async def user(
    number: int, channel: str, load: Load, end: float, client: httpx.AsyncClient, seen: Seen
) -> None:
    """One user, until the time is over."""
    draw = random.Random(number)
    await asyncio.sleep(draw.uniform(*load.thinking) * draw.random())
    while time.monotonic() < end:
        strength = draw.choice(STRENGTHS)
        began = time.monotonic()
        try:
            answer = await client.get(
                "/picture", params={"channel": channel, "strengths": strength, "largest": 512}
            )
        except httpx.HTTPError as error:
            seen.failures.append(repr(error))
            continue
        seen.waits[number].append(time.monotonic() - began)
        if answer.status_code == 200:
            seen.pictures[number, strength].add(answer.content)
        else:
            seen.failures.append(f"{answer.status_code}: {answer.text[:200]}")
        await asyncio.sleep(draw.uniform(*load.thinking))


async def carry_out(load: Load, server: Server) -> tuple[Seen, dict[str, float]]:
    """Start all users; return what they received, memory and time."""
    seen = Seen()
    limits = httpx.Limits(max_connections=load.users)
    memory = {"megabytes_at_first": 0.0}

    async def remember(client: httpx.AsyncClient) -> None:
        while sum(map(len, seen.waits.values())) < 50:
            await asyncio.sleep(0.2)
        memory["megabytes_at_first"] = server.megabytes()

    own = time.process_time()
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
        end = time.monotonic() + load.seconds
        watching = asyncio.create_task(remember(client))
        await asyncio.gather(
            *(
                user(number, channel, load, end, client, seen)
                for number, channel in enumerate(server.channels)
            )
        )
        watching.cancel()
    memory["megabytes_at_last"] = server.megabytes()
    memory["users_processor_share"] = (time.process_time() - own) / load.seconds
    return seen, memory


def wrong_pictures(server: Server, seen: Seen) -> int:
    """How many different answers differ from the picture that is rendered alone."""
    wrong = 0
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for (number, strength), answers in seen.pictures.items():
            query = {
                "channel": server.channels[number], "strengths": strength, "largest": 512
            }  # fmt: skip
            alone = pixels(client.get("/picture", params=query).content)
            wrong += sum(bool(abs(pixels(one) - alone).max() > UNLIKE) for one in answers)
    return wrong


def pixels(jpeg: bytes) -> np.ndarray:
    """A picture as whole numbers."""
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=int)


def report(load: Load, seen: Seen, memory: dict[str, float], wrong: int) -> dict[str, float]:
    """The summary of a load; times in seconds."""
    waits = sorted(wait for each in seen.waits.values() for wait in each)
    medians = [statistics.median(each) for each in seen.waits.values()]
    numbers = {
        "users": load.users,
        "pictures": len(waits),
        "pictures_per_second": len(waits) / load.seconds,
        **{f"p{share}": waits[min(len(waits) - 1, len(waits) * share // 100)]
           for share in (50, 95, 99)},
        "slowest_users_median": max(medians),
        "quickest_users_median": min(medians),
        **memory,
        "failures": len(seen.failures),
        "kinds_of_pictures_compared": sum(map(len, seen.pictures.values())),
        "wrong": wrong,
    }  # fmt: skip
    return {name: round(value, 3) for name, value in numbers.items()}


def main(arguments: list[str]) -> int:
    """Run the loads; return 1 if anything was wrong."""
    summary, *details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        "python -m tests.faults load", description=summary, epilog="".join(details),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--loads", nargs="+", default=LOADS, metavar="USERS:THINKING:SECONDS")
    parser.add_argument("--pipeline", default="portraits", help="bundled name or folder")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args(arguments)
    try:
        loads = [Load.parsed(text) for text in options.loads]
    except ValueError as error:
        parser.error(str(error))
    reports = []
    for load in loads:
        server = Server(options.pipeline, load.users)
        try:
            seen, memory = asyncio.run(carry_out(load, server))
            if not seen.waits:
                raise SystemExit(f"Nothing was answered: {seen.failures[:3]}")
            reports.append(report(load, seen, memory, wrong_pictures(server, seen)))
        finally:
            server.close()
        print(json.dumps(reports[-1]), flush=True)
        for failure in seen.failures[:5]:
            print(failure, file=sys.stderr)
        if options.output:
            options.output.write_text(json.dumps(reports, indent=1) + "\n")
    return int(any(one["wrong"] or one["failures"] for one in reports))


if __name__ == "__main__":
    _, _, users_, pipeline_ = sys.argv
    serve(int(users_), pipeline_)
