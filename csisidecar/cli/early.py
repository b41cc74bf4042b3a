"""Stop signals before there is an event loop that takes them: a quiet end instead of a traceback.

A third of a second goes by between the first line of a command and its loop, most of it for imports. Nothing has
begun in that time, so there is nothing to drain: the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from csisidecar.cli.exits import INTERRUPTED


def end_at_once(shown: str, *, terminated: int) -> None:
    """Until somebody else takes the stop signals: SIGINT says so and ends with 130, SIGTERM with `terminated`.

    Not raised as an exception: one in the middle of an import can be swallowed there.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    line = f"{shown}: interrupted\n".encode()

    def interrupted(*_: object) -> None:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(terminated))
