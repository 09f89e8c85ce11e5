"""A service under load while its bundle is exchanged: whether any request fails, and how fast.

    python -m benchmarks.load BUNDLE [SECONDS] [CONNECTIONS]

Starts `python -m agents.serve http` on a copy of the bundle, on loopback, and lets CONNECTIONS
keep-alive connections send it snapshots of 64 rigs, one after the other, for SECONDS. Meanwhile the
copy is exchanged RELOADS times for one of another name, and once for one with a flipped bit, which
must be refused. Client and service share the machine. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np

from agents.snapshots import Names, to_snapshot
from env.observation import facts
from env.scenario import build_scenario
from env.world import World

RELOADS = 10
RIGS = 64
REFUSED = 'fleet_reloads_total{result="refused"} 1.0'
PATIENCE_S = 60.0  # for a reload, on a machine under full load


@dataclass
class Tally:
    """What the connections saw."""

    seconds: list[float] = field(default_factory=list)  # of each request that was answered
    failed: list[str] = field(default_factory=list)


def body() -> bytes:
    """A snapshot of 64 rigs on the catalogue's networks, of this minute."""
    world = World.start(build_scenario({"random_rigs": RIGS}, horizon=24), [0])
    known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
    now = datetime.now(UTC)
    return json.dumps(to_snapshot(known, 0, Names.of(world, 0), now, world.memory)).encode()


def renamed(bundle: Path, folder: Path, name: str, *, flip: bool = False) -> Path:
    """A copy of a bundle under another name, with its sums made anew; or with one bit flipped."""
    copy = folder / name
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "bundle": name}))
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(copy.iterdir())
        if file.name != "SHA256SUMS"
    ]
    (copy / "SHA256SUMS").write_text("".join(lines))
    if flip:
        model = bytearray((copy / "policy.onnx").read_bytes())
        model[len(model) // 2] ^= 1
        (copy / "policy.onnx").write_bytes(model)
    return copy


def started(bundle: Path) -> tuple[subprocess.Popen[str], int]:
    """A service on a free port of loopback, once it listens."""
    command = [sys.executable, "-m", "agents.serve", "http", str(bundle), "--port", "0"]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    for line in service.stderr:
        if '"listening"' in line:
            return service, json.loads(line)["port"]
    raise SystemExit(f"the service ended with {service.wait()}")


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Status and body of the answer to one request on an open connection."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].split()[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def connection(port: int, request: bytes, until: float, tally: Tally) -> None:
    """Ask over and over until `until`; a connection that fails is opened again, and told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while perf_counter() < until:
        begun = perf_counter()
        try:
            status, answer = await ask(reader, writer, request)
        except (OSError, EOFError) as error:
            tally.failed.append(repr(error))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        if status != 200:
            tally.failed.append(f"{status} {answer[:200]!r}")
        tally.seconds.append(perf_counter() - begun)
    writer.close()


async def answering(port: int, wanted: str) -> float:
    """Seconds until the bundle of that name answers."""
    begun = perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET /v1/model HTTP/1.1\r\nHost: load\r\n\r\n"
    while perf_counter() - begun < PATIENCE_S:
        _, answer = await ask(reader, writer, request)
        if json.loads(answer)["bundle"] == wanted:
            writer.close()
            return perf_counter() - begun
        await asyncio.sleep(0.05)
    raise SystemExit(f"{wanted} does not answer after {PATIENCE_S:g} s")


async def exchange(bundle: Path, folder: Path, port: int, seconds: float) -> list[float]:
    """Put new bundles in the place of the service's, evenly over the time; seconds each took."""
    live, took = folder / "live", list[float]()
    pause = seconds / (RELOADS + 2)
    for k in range(RELOADS):
        await asyncio.sleep(max(0.0, pause - (took[-1] if took else 0.0)))
        fresh = await asyncio.to_thread(renamed, bundle, folder, f"exchange-{k}")
        os.rename(live, folder / f"old-{k}")
        os.rename(fresh, live)
        took.append(await answering(port, f"exchange-{k}"))
    broken = await asyncio.to_thread(renamed, bundle, folder, "broken", flip=True)
    os.rename(live, folder / "last")
    os.rename(broken, live)
    begun = perf_counter()
    while REFUSED not in await fetch(port, "/metrics"):
        if perf_counter() - begun > PATIENCE_S:
            raise SystemExit("the broken bundle was not refused")
        await asyncio.sleep(0.2)
    return took


async def hammer(
    bundle: Path, folder: Path, port: int, seconds: float, connections: int
) -> dict[str, Any]:
    """The figures of a run."""
    snapshot, tally = body(), Tally()
    head = f"POST /v1/decide HTTP/1.1\r\nHost: load\r\nContent-Length: {len(snapshot)}\r\n"
    request = head.encode() + b"Content-Type: application/json\r\n\r\n" + snapshot
    begun = perf_counter()
    clients = [connection(port, request, begun + seconds, tally) for _ in range(connections)]
    exchanging = asyncio.create_task(exchange(bundle, folder, port, seconds))
    await asyncio.gather(*clients)
    elapsed = perf_counter() - begun
    took = await exchanging
    metrics = await fetch(port, "/metrics")
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1e3
    return {
        "seconds": round(elapsed, 1),
        "connections": connections,
        "rigs": RIGS,
        "requests": len(tally.seconds),
        "failed": len(tally.failed),
        "failures": tally.failed[:3],
        "requests_per_s": round(len(tally.seconds) / elapsed, 1),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "reloads": len(took),
        "reload_s": [round(s, 2) for s in took],
        "broken_bundle_refused": REFUSED in metrics,
    }


async def fetch(port: int, path: str) -> str:
    """The body of a GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    _, answer = await ask(reader, writer, f"GET {path} HTTP/1.1\r\nHost: load\r\n\r\n".encode())
    writer.close()
    return answer.decode()


def drained(pipe: IO[str]) -> None:
    """Read a pipe to its end, so that its writer never waits."""
    for _ in pipe:
        pass


async def main(bundle: Path, seconds: float, connections: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        service, port = started(renamed(bundle, folder, "live"))
        assert service.stderr is not None
        reading = asyncio.create_task(asyncio.to_thread(drained, service.stderr))
        try:
            print(json.dumps(await hammer(bundle, folder, port, seconds, connections)))
        finally:
            service.send_signal(signal.SIGTERM)
            print(f"exit code {service.wait(timeout=30)}", file=sys.stderr)
            await reading


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    parser.add_argument("connections", type=int, nargs="?", default=8)
    given = parser.parse_args()
    asyncio.run(main(given.bundle, given.seconds, given.connections))
