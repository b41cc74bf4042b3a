"""Virtual time outside of pytest's own loop: for properties, where each example needs a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import looptime

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run_virtual(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end on a fresh loop whose sleeps take no time."""
    loop = looptime.new_event_loop(start=0.0, _enabled=True)
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
