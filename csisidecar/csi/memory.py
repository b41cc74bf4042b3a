"""A pipe between a client and a server protocol in one loop, so that a driver's service objects need no socket.

The seam is the one of grpclib's `testing.ChannelFor`; here closing works too: either end closes both.
"""

from __future__ import annotations

import asyncio


class MemoryTransport(asyncio.Transport):
    """Half of a pipe between two protocols in one loop; closing either end ends both, in order, one step on."""

    peer: MemoryTransport

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._own_protocol = protocol
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:  # noqa: D102 - asyncio's
        if data and not self._closing:
            self._loop.call_soon(self.peer.deliver, bytes(data))

    def deliver(self, data: bytes) -> None:
        """Hands over what the other end wrote, unless this end is closing."""
        if not self._closing:
            try:
                self._own_protocol.data_received(data)
            except BaseException:
                self.close()  # as a socket transport does when its protocol fails
                raise

    def is_closing(self) -> bool:  # noqa: D102 - asyncio's
        return self._closing

    def close(self) -> None:  # noqa: D102 - asyncio's
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._own_protocol.connection_lost, None)
            self._loop.call_soon(self.peer.close)

    def abort(self) -> None:  # noqa: D102 - asyncio's
        self.close()


def join(near: asyncio.Protocol, far: asyncio.Protocol) -> None:
    """Connects the two protocols back to back."""
    near_end, far_end = MemoryTransport(near), MemoryTransport(far)
    near_end.peer, far_end.peer = far_end, near_end
    near.connection_made(near_end)
    far.connection_made(far_end)
