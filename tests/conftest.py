"""Holds for every test: no loop that nobody closes, and nothing left over when a test ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# On Python 3.11 `asyncio.get_event_loop` makes a loop unless one was set before; pytest-asyncio asks for the "old"
# one before the first asynchronous test, nobody closes it, and a later test is blamed.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes away what a command under test set up: its handlers write to streams that end with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers]
    root.setLevel(level)


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """Fails a test that leaves a task of the package behind."""
    yield
    own = asyncio.current_task()
    for _ in range(20):
        left = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
        if not left:
            return
        await asyncio.sleep(0.01)
    names = sorted(task.get_name() for task in left)
    pytest.fail(f"tasks left behind: {', '.join(names)}")
