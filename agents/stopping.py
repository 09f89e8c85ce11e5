"""How the scripts end when they are told to: one line, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED, TERMINATED = 130, 143  # exit codes, as a shell has them: 128 and the signal's number


def leave_at_once() -> None:
    """Until `leave_in_order`, while a script imports, an interrupt ends the process; there is
    nothing yet to put away.

    Where it is ignored, as in a shell's background jobs, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def leave_in_order() -> None:
    """From now on an interrupt is Python's own KeyboardInterrupt, which `guarded` waits for, and a
    SIGTERM lets worker processes and drafts of files be put away too."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def _leave(*_: object) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _terminate(*_: object) -> None:
    raise SystemExit(TERMINATED)
