"""How tests ask the service: the application itself, bundles to exchange, recorded hours."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from agents.serve.http import application
from agents.serve.metrics import Metrics
from agents.serve.runtime import Policy
from agents.serve.service import Service
from agents.serve.shadow import Shadow

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}
TOKEN = b"a-token-of-some-length"


def recorded(bundle: Path) -> list[Json]:
    """Recorded snapshots, hour by hour."""
    golden = json.loads((bundle / "golden.json").read_text())
    return [hour["snapshot"] for hour in golden["sequences"][0]["hours"]]


def new_service(bundle: Path, shadow: Shadow | None = None) -> Service:
    """A service whose clock is that of the snapshots."""
    return Service(lambda: Policy.load(bundle), shadow, simulated=True)


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, service: Service, token: bytes | None = None) -> None:
        self.metrics = Metrics(service)
        app = application(service, self.metrics, token)
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **asked: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            url = "http://service"
            async with httpx.AsyncClient(transport=self._transport, base_url=url) as client:
                return await client.request(method, path, **asked)

        return asyncio.run(ask())

    def get(self, path: str, **asked: Any) -> httpx.Response:
        return self.request("GET", path, **asked)

    def measured(self) -> dict[str, float]:
        """What /metrics tells, by name and labels."""
        lines = self.get("/metrics").text.splitlines()
        told = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in told}

    def decide(self, snapshot: Json, **asked: Any) -> httpx.Response:
        return self.request("POST", "/v1/decide", json=snapshot, **asked)

    def send(self, body: bytes | AsyncIterator[bytes]) -> httpx.Response:
        return self.request("POST", "/v1/decide", content=body, headers=JSON)


def rebuilt(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle under another name, whole."""
    copy = folder / name
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"bundle": name}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    files = sorted(file for file in copy.iterdir() if file.name != "SHA256SUMS")
    sums = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (copy / "SHA256SUMS").write_text(sums)
    return copy


def exchange(live: Path, fresh: Path) -> None:
    """Put a new bundle in the place of the one that is served."""
    os.rename(live, live.with_name(f"{live.name}.{fresh.name}.old"))
    os.rename(fresh, live)
