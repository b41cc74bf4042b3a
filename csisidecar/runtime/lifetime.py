"""A background task that lives exactly as long as a block."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the block; leaving the block cancels it and waits for its end.

    Raises:
        Exception: what `work` raised, alone and not in a group; the block is cancelled then.

    **Cancellation** of the block reaches the task, and is waited for.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work, name=name)
            try:
                yield task
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        error = unwrap(errors)
        raise error from error.__cause__


def unwrap(error: BaseException) -> BaseException:
    """The first real error in a tree of exception groups; a single error is given back as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
