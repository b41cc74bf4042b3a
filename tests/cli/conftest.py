"""Keeps pytest-asyncio 1.5 from making an event loop that nobody closes, which a later test would be blamed for."""

from __future__ import annotations

import asyncio

# On Python 3.11 `asyncio.get_event_loop` makes a loop unless one was set before; pytest-asyncio asks for the "old" one.
asyncio.set_event_loop(None)
