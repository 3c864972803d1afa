"""Many clients from few processes: `python -m tests.load PORT CLIENTS SECONDS` prints what they met as one JSON object.

Each client has a connection of its own and asks again and again, as fast as it is answered: a plan, then its few rows.
A client that is told `busy` comes again after a pause, as the project's clients do.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.wire import ASKED, command, ticket

ROOT = Path(__file__).parents[1]
_SERVICE = "/arrow.flight.protocol.FlightService/"
# Else the clients of a process would share one connection.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
# Far beyond what the server lets a call wait and run: whoever gets here was forgotten.
_FORGOTTEN_S = 30.0


@dataclass(frozen=True)
class Met:
    """Calls by code, and how long those that were answered took, in seconds."""

    codes: Counter[str]
    took: list[float]

    def percentile(self, part: float) -> float:
        return sorted(self.took)[int(len(self.took) * part)] if self.took else 0.0

    def __str__(self) -> str:
        figures = ", ".join(f"p{part * 100:g} {self.percentile(part):.3f} s" for part in (0.5, 0.9, 0.99))
        return f"{len(self.took)} answered ({figures}); {dict(self.codes)}"


def run(port: int, clients: int, seconds: float, processes: int = 2) -> Met:
    """Load a server from processes of their own."""
    share = [clients // processes + (number < clients % processes) for number in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.load", str(port), str(count), str(seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in share
    ]
    codes: Counter[str] = Counter()
    took: list[float] = []
    for process in running:
        output, _ = process.communicate(timeout=seconds + 120)
        assert process.returncode == 0
        found = json.loads(output)
        codes.update(found["codes"])
        took += found["took"]
    return Met(codes, took)


async def _client(port: int, until: float, codes: Counter[str], took: list[float]) -> None:
    # Not all in the same moment.
    await asyncio.sleep(random.random())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        plan = channel.unary_unary(f"{_SERVICE}GetFlightInfo")
        rows = channel.unary_stream(f"{_SERVICE}DoGet")
        while time.monotonic() < until:
            code = await _timed(plan, command(ASKED), took)
            codes[code] += 1
            if code == "ok":
                code = await _timed(rows, ticket(ASKED), took)
                codes[code] += 1
            if code != "ok":
                await asyncio.sleep(random.uniform(0.5, 1.5))


async def _timed(method: Callable[..., grpc.aio.Call], body: bytes, took: list[float]) -> str:
    began = time.monotonic()
    call = method(body, timeout=_FORGOTTEN_S)
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            async for _ in call:
                pass
            trailers = dict(await call.trailing_metadata() or ())
            if trailers.get("x-athena-flight-rows") != "19":
                return f"wrong: {trailers}"
        else:
            await call
    except grpc.aio.AioRpcError as error:
        found = re.match(r"\[([a-z-]+)\]", error.details() or "")
        return found[1] if found else f"{error.code()}: {error.details()}"
    took.append(time.monotonic() - began)
    return "ok"


async def _main(port: int, clients: int, seconds: float) -> None:
    codes: Counter[str] = Counter()
    took: list[float] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(_client(port, until, codes, took) for _ in range(clients)))
    print(json.dumps({"codes": codes, "took": took}))


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
