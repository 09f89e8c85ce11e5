"""Who may reach the service: the address it listens on, and the bearer token it asks for."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import stat
from pathlib import Path

from .errors import FieldError

BACKLOG = 2048  # connections that wait to be accepted


def read_token(path: Path) -> bytes:
    """The bearer token in a file that others on the machine cannot read."""
    try:
        with path.open("rb") as file:
            others = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO
            token = file.read(4096).strip()
    except OSError as error:
        raise FieldError("--token-file", "a file that can be read", error.strerror) from None
    if others:
        raise FieldError("--token-file", "a file that only its owner and group can use", str(path))
    if not token or len(token.split()) != 1:
        raise FieldError("--token-file", "one token without blanks in it", str(path))
    return token


def bears(given: str, token: bytes) -> bool:
    """Whether an Authorization header gives the token."""
    scheme, _, value = given.partition(" ")
    # compared in constant time, so that answering times tell nothing of the token
    same = hmac.compare_digest(value.strip().encode("latin-1", "replace"), token)
    return same and scheme.lower() == "bearer"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; an address that cannot be had is a FieldError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's delay (40 ms an answer) only where the protocol is named
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as error:
        listening.close()
        raise FieldError("--port", f"an address free to bind on {host}", str(error)) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
