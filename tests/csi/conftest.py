"""Channels that are closed when the test ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from csisidecar.csi import DriverChannel


@pytest.fixture
async def keep() -> AsyncIterator[Callable[[DriverChannel], DriverChannel]]:
    """Hands a channel back and closes it after the test, when the driver's handlers are given time to end."""
    channels: list[DriverChannel] = []

    def remember(channel: DriverChannel) -> DriverChannel:
        channels.append(channel)
        return channel

    yield remember
    for channel in channels:
        channel.close()
    await asyncio.sleep(0.01)
