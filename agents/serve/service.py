"""One policy behind the service, exchanged for that of a new bundle while requests go on.

A new bundle is loaded and checked beside the old one; only then are they exchanged, between two
decisions, and what was remembered goes over. A bundle that fails its check is left alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .runtime import Decision, Policy
from .shadow import Shadow
from .snapshot import parse

LOG = logging.getLogger(__name__)

POLL_S = 1.0  # how often the bundle's folder is looked at

Fingerprint = tuple[tuple[str, int, int, int], ...]
Load = Callable[[], Policy]


class Service:
    """Decides with one policy at a time; `reload` may be called from another thread."""

    def __init__(
        self, load: Load, shadow: Shadow | None = None, *, simulated: bool = False
    ) -> None:
        """`load` reads and checks the bundle; its BundleError passes through.

        simulated: take the present time from each snapshot, for a world whose hours pass faster.
        """
        self._load, self._shadow, self._simulated = load, shadow, simulated
        self._exchange = threading.Lock()
        self.policy = load()
        if shadow is not None:
            shadow.begin(self.policy)

    @property
    def shadow(self) -> bool:
        """Whether decisions are only logged, for somebody else decides."""
        return self._shadow is not None

    def decide(self, snapshot: Any) -> Decision:
        """The decision on a snapshot, as JSON holds it; a FieldError says what is wrong with it."""
        while True:
            policy = self.policy
            seen = parse(snapshot, policy.bundle.columns)  # nobody waits meanwhile
            with self._exchange:
                if policy is not self.policy:
                    continue  # exchanged meanwhile: the new bundle may read it otherwise
                now = seen.time if self._simulated else clock.time()
                if self._shadow is not None:
                    return self._shadow.decide(snapshot, seen, now)
                return policy.answer(seen, now)

    def reload(self) -> bool:
        """Exchange the policy for what is loaded now; False if that failed its check."""
        try:
            fresh = self._load()
        except Exception as error:  # whatever is wrong with it, the old one goes on
            kept = self.policy.bundle.manifest["bundle"]
            _say(logging.ERROR, "reload refused", reason=str(error), kept=kept)
            return False
        with self._exchange:
            fresh.take_over(self.policy)
            self.policy = fresh
            if self._shadow is not None:
                self._shadow.begin(fresh)
        _say(logging.INFO, "bundle loaded", bundle=fresh.bundle.manifest["bundle"])
        return True


def told(decision: Decision, *, shadow: bool) -> dict[str, Any]:
    """A decision as the client gets it. A shadow's moves are those of a fleet on paper: whoever
    carries out `moves` finds none."""
    said = decision.to_json()
    moves, paper = ([], said["moves"]) if shadow else (said["moves"], [])
    return {**said, "moves": moves, "paper_moves": paper, "shadow": shadow}


class Watch(threading.Thread):
    """Reloads when the bundle's folder has changed and come to rest, or when it is asked to.

    At rest: the same files at two looks, so that a folder half copied is not tried too early.
    """

    def __init__(self, folder: Path, reload: Callable[[], Any], poll_s: float = POLL_S) -> None:
        super().__init__(name="bundle-watch", daemon=True)
        self._folder, self._reload, self._poll_s = folder, reload, poll_s
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._asked = False  # not an Event: setting one takes a lock, which a signal may interrupt
        self._tried = self._before = fingerprint(folder)

    def ask(self) -> None:
        """Reload at the next look, changed or not; safe in a signal handler."""
        self._asked = True

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self._woken.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.is_set():
            self._woken.wait(self._poll_s)
            self._woken.clear()
            self.look()

    def look(self) -> None:
        """Reload if it is time to."""
        now = fingerprint(self._folder)
        at_rest = bool(now) and now == self._before
        self._before = now
        if self._asked or (at_rest and now != self._tried):
            self._asked, self._tried = False, now
            self._reload()


def fingerprint(folder: Path) -> Fingerprint:
    """Name, inode, size and time of change of each file; empty while the folder is not there."""
    try:
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((n, s.st_ino, s.st_size, s.st_mtime_ns) for n, s in stats))


def _say(level: int, message: str, **fields: object) -> None:
    LOG.log(level, message, extra={"fields": fields})
