"""Before the first asynchronous test of a run looptime's plugin would make a loop that nobody closes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from csisidecar.testing.driver import FakeDriver
from tests.testing.driver.asking import Asker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

asyncio.set_event_loop(None)


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    asker = Asker(FakeDriver())
    await asker.channel.connect()
    yield asker
    asker.channel.close()
    await asyncio.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="csi") as name:  # pytest's own paths are too long for a socket
        yield Path(name)
