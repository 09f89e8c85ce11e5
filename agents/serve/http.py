"""The policy as an HTTP service: a FastAPI application under uvicorn, with Prometheus metrics.

The only module that imports FastAPI, Starlette and uvicorn. Whatever a client sends is answered as
JSON, never with a 5xx. A body must be declared as JSON, so that a page in a browser cannot send one
across origins unasked.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import bears, is_loopback, listen, read_token
from .document import load
from .errors import FieldError
from .logs import log_json_lines
from .metrics import CONTENT_TYPE_LATEST, Metrics
from .openapi import document
from .overrides import read_overrides
from .runtime import Policy
from .service import Service, Watch, told
from .shadow import Shadow

LOG = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 2**20  # a snapshot of 5,000 rigs has about 3 MB
DRAIN_S = 10  # for requests in progress when the service is asked to stop
BODY = ""  # path of a whole snapshot
OPEN_PATHS = ("/healthz", "/readyz")


class Guard:
    """Asks for the token, where there is one, on all but `OPEN_PATHS`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: bytes) -> None:
        self._app, self._metrics, self._token = app, metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = Headers(scope=scope).get("authorization", "")
            if not bears(given, self._token):
                app = _refuse(self._metrics, 401, "a valid bearer token is required")
                app.headers["WWW-Authenticate"] = "Bearer"
        await app(scope, receive, send)


def application(service: Service, metrics: Metrics, token: bytes | None = None) -> FastAPI:
    """The routes; with a token, all but `OPEN_PATHS` ask for it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    if token is not None:
        app.add_middleware(Guard, metrics=metrics, token=token)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        response = _refuse(metrics, error.status_code, error.detail)
        response.headers.update(error.headers or {})
        return response

    @app.get("/healthz")
    @app.get("/readyz")
    async def ready() -> Response:
        return _json(200, {"ready": True, "bundle": service.policy.bundle.manifest["bundle"]})

    @app.get("/v1/model")
    async def model() -> Response:
        return _json(200, describe(service))

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    async def described() -> Response:
        return _json(200, openapi(service, token=token is not None))

    @app.post("/v1/decide")
    async def decide(request: Request) -> Response:
        body = await _read_body(request)
        return await run_in_threadpool(_decide, service, metrics, body)

    return app


def describe(service: Service) -> dict[str, Any]:
    """What /v1/model tells of the bundle that answers."""
    bundle = service.policy.bundle
    told = ("bundle", "created", "rule", "scores", "parity", "provenance")
    return {
        **{name: bundle.manifest[name] for name in told},
        "guardrails": dataclasses.asdict(service.policy.limits),  # the operator's over its own
        "digest": bundle.digest,
        "shadow": service.shadow,
    }


def openapi(service: Service, *, token: bool) -> dict[str, Any]:
    """The OpenAPI document, whose example is the bundle's first recorded case."""
    bundle = service.policy.bundle
    example = bundle.golden["sequences"][0]["hours"][0]["snapshot"]
    return document(bundle.schema, example, bundle.manifest["bundle"], token=token)


def _decide(service: Service, metrics: Metrics, body: bytes) -> Response:
    """Decide on a body, in a thread of the pool: a large fleet would hold up the event loop."""
    begin = time.perf_counter()
    try:
        decision = service.decide(load(body, BODY))
    except FieldError as error:
        if error.path == BODY:  # the whole of it: not JSON
            return _refuse(metrics, 400, str(error))
        wrong = {"path": error.path, "expected": error.expected, "got": error.got}
        return _refuse(metrics, 422, str(error), **wrong)
    seconds = time.perf_counter() - begin
    metrics.seconds.observe(seconds)
    metrics.count(decision)
    fields = {
        "source": decision.source,
        "reason": decision.reason,
        "moves": len(decision.moves),
        "guardrails": [acted.text for acted in decision.acted],
        "ms": round(seconds * 1e3, 3),
    }
    LOG.info("decided", extra={"fields": fields})
    return _json(200, told(decision, shadow=service.shadow))


async def _read_body(request: Request) -> bytes:
    """The body, refused before it is held in memory where it is too large or not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in request.headers:
        raise HTTPException(415, "expected a body of application/json without an encoding")
    # the rest of a large body is not read: the connection cannot be used again
    too_large = HTTPException(
        413, f"the body has more than {MAX_BODY_BYTES} bytes", {"Connection": "close"}
    )
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise too_large
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    return bytes(body)


def _refuse(metrics: Metrics, status: int, error: str, **more: str) -> Response:
    """An answer that says why; counted and logged."""
    metrics.refusals.labels(str(status)).inc()
    LOG.warning("refused", extra={"fields": {"status": status, "error": error}})
    return _json(status, {"error": error, **more})


def _json(status: int, content: dict[str, Any]) -> Response:
    """JSON in ASCII, which can be sent whatever its texts hold."""
    return Response(json.dumps(content), status, media_type="application/json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `http` beyond those of every command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (loopback)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--token-file", type=Path, help="bearer token; needed beyond loopback")
    parser.add_argument(
        "--clock",
        choices=("system", "snapshot"),
        default="system",
        help="what snapshots must not be older than; snapshot: nothing, for simulated time",
    )
    parser.add_argument("--shadow", type=Path, metavar="LOG.jsonl", help="decide for the log only")


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, which let requests in progress end; SIGHUP reloads the bundle
    and the operator's guardrails.

    Exit code 0. A FieldError names the option that is wrong, a BundleError the bundle.
    """
    token = read_token(options.token_file) if options.token_file else None
    if token is None and not is_loopback(options.host):
        raise FieldError("--host", "a loopback address unless --token-file is given", options.host)
    log_json_lines()
    # the watch first, so that no change after the first load is missed
    watch = Watch(options.bundle, lambda: _reload(metrics))
    shadow = Shadow(options.shadow) if options.shadow else None
    service = Service(_loader(options), shadow, simulated=options.clock == "snapshot")
    metrics = Metrics(service)
    config = uvicorn.Config(
        application(service, metrics, token),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    listening = listen(options.host, options.port)
    freeze()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains and then raises the signal again: this makes that a normal end
        signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: watch.ask())
    watch.start()
    host, port = listening.getsockname()[:2]
    LOG.info("listening", extra={"fields": {"host": host, "port": port}})
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        watch.stop()
    return 0


def _reload(metrics: Metrics) -> None:
    metrics.reload()
    freeze()


def freeze() -> None:
    """Keep the collector of garbage from what stays: bundle, code and application.

    It would walk them every few decisions, for a fifth of what one on 4,096 rigs takes. What an
    earlier bundle left behind is freed first."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _loader(options: argparse.Namespace) -> Callable[[], Policy]:
    """What reads and checks bundle and guardrails, each time that it is called."""
    return lambda: Policy.load(
        options.bundle,
        state_dir=options.state_dir,
        guardrails=read_overrides(options.guardrails),
        public_key=options.public_key,
        signature=options.signature,
        shadow=options.shadow is not None,
    )
