"""A driver to ask, and a folder whose name is short enough for a socket."""

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
