"""The HTTP server: metrics, liveness, readiness; the owner of aiohttp.web.

It opens before anything else of a Sidecar and closes last. Every listener serves every path, except those that
were asked for metrics alone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Self

from aiohttp import web

from csisidecar.errors import StartupError
from csisidecar.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from csisidecar.clock import Clock
    from csisidecar.config import HTTPConfig, Listener
    from csisidecar.telemetry.health import Health
    from csisidecar.telemetry.metrics import Telemetry

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
DEADLOCK_S = 60.0
"""A loop whose timers are this late is stuck."""
_PLAIN = "text/plain; charset=utf-8"
_BACKLOG = 128


class HTTPServer:
    """The listeners of one Sidecar, open while the block lasts.

    `/healthz` answers 503 only when the event loop's timers are a minute late; a loop that is stopped entirely
    does not answer at all, which a probe counts the same. `/readyz` has a line for each check.

    Args:
        config: addresses and the path of the metrics.
        telemetry: rendered at each scrape.
        health: asked at each look.
        clock: for the heartbeat of the loop.

    Raises:
        StartupError: on entering: an address that somebody asked for cannot be opened.
    """

    def __init__(self, config: HTTPConfig, *, telemetry: Telemetry, health: Health, clock: Clock) -> None:
        self._config = config
        self._telemetry = telemetry
        self._health = health
        self._clock = clock
        self._runners: list[web.ServerRunner] = []
        self._beat: asyncio.TimerHandle | None = None
        self._beaten_s = 0.0
        self.addresses: dict[str, tuple[str, int]] = {}
        """Address as configured → host and port it was opened on."""

    async def __aenter__(self) -> Self:
        self._heartbeat()
        try:
            for listener in _without_doubles(self._config.listeners):
                await self._open(listener)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _open(self, listener: Listener) -> None:
        try:
            opened = _bind(listener.address)
        except (OSError, ValueError) as error:
            reason = f"--{listener.flag.lstrip('-')}={listener.address} cannot be opened: {_explain(error)}"
            if not listener.is_default:
                raise StartupError(f"{reason}; give another address") from error
            logger.warning("default address not opened, its paths are on the other one", extra={"error": reason})
            return
        server = web.Server(self._metrics_only if listener.metrics_only else self._everything, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.SockSite(runner, opened, backlog=_BACKLOG).start()
        host, port = opened.getsockname()[:2]
        self.addresses[listener.address] = (host, port)
        logger.info("HTTP server listens", extra={"address": listener.address, "port": port})

    async def _close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self.addresses.clear()

    async def _metrics_only(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._metrics(request) if request.path == self._config.metrics_path else _not_found()

    async def _everything(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == self._config.metrics_path:
            return self._metrics(request)
        if path == "/healthz":
            late_s = self._clock.monotonic() - self._beaten_s - HEARTBEAT_S
            if late_s > DEADLOCK_S:
                return _answer(503, f"the event loop is stuck: its timers are {late_s:.0f} s late\n")
            return _answer(200, "ok")
        if path == "/readyz":
            report = self._health.report()
            return _answer(200 if report.is_ok else 503, report.text)
        if path == "/healthz/leader-election" and self._health.has_election:
            problem = self._health.election_problem()
            return _answer(500, f"internal server error: {problem}\n") if problem else _answer(200, "ok")
        return _not_found()

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        answer = web.Response(body=self._telemetry.render(), headers={"Content-Type": CONTENT_TYPE})
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            answer.enable_compression(web.ContentCoding.gzip)
        return answer

    def _heartbeat(self) -> None:
        self._beaten_s = self._clock.monotonic()
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._heartbeat)


def _answer(status: int, text: str) -> web.Response:
    return web.Response(
        status=status, body=text.encode(), headers={"Content-Type": _PLAIN, "X-Content-Type-Options": "nosniff"}
    )


def _not_found() -> web.Response:
    return _answer(404, "404 page not found\n")


def _without_doubles(listeners: tuple[Listener, ...]) -> list[Listener]:
    """One listener an address; the one that serves more wins."""
    kept: dict[str, Listener] = {}
    for listener in sorted(listeners, key=lambda listener: listener.metrics_only):
        kept.setdefault(listener.address, listener)
    return [listener for listener in listeners if kept[listener.address] is listener]


def _bind(address: str) -> socket.socket:
    """A listening socket for ``host:port``, ``[v6]:port`` or ``:port``, which means every interface as in Go."""
    host, port = _split(address)
    if host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
        except OSError as error:
            # A node without IPv6 has the family compiled in and no address of it.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, as in [::1]:8080")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("give host:port or :port")
    return host, int(port)


def _explain(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return "the port is taken (containers of one pod share their ports)"
        if error.errno == errno.EACCES:
            return "no permission for this port"
        return error.strerror or str(error)
    return str(error)
