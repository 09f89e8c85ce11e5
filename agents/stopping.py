"""Ctrl-C while a script still imports, which takes seconds: one line instead of a traceback."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130  # exit code, as a shell has it: 128 and the number of SIGINT


def leave_at_once() -> None:
    """Until `leave_in_order`, an interrupt ends the process; there is nothing yet to put away.

    Where it is ignored, as in a shell's background jobs, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def leave_in_order() -> None:
    """From now on an interrupt is Python's own KeyboardInterrupt, which `guarded` waits for."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: object) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
