"""Before the first asynchronous test of a run looptime's plugin would make a loop that nobody closes."""

from __future__ import annotations

import asyncio

asyncio.set_event_loop(None)
