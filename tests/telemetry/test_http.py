"""The HTTP server on real sockets: what is served where, and addresses that cannot be opened."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import HTTPConfig, Listener
from csisidecar.errors import StartupError
from csisidecar.telemetry import Health, HTTPServer, Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = "127.0.0.1:0"


def listener(address: str = HERE, **kind: bool) -> Listener:
    return Listener(address=address, flag="--http-endpoint", **kind)


def server(
    *listeners: Listener, health: Health | None = None, clock: SystemClock | None = None, path: str = "/metrics"
) -> HTTPServer:
    return HTTPServer(
        HTTPConfig(listeners=listeners, metrics_path=path),
        telemetry=Telemetry(),
        health=health or Health(),
        clock=clock or SystemClock(),
    )


@asynccontextmanager
async def taken() -> AsyncIterator[str]:
    """An address that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


async def ask(
    address: tuple[str, int], path: str, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, f"http://127.0.0.1:{address[1]}{path}", headers=headers) as answer,
    ):
        body = await answer.read()
        return answer.status, body.decode("latin-1"), dict(answer.headers)


@pytest.mark.parity("R-HTTP-03")
async def test_paths_before_anything_is_known() -> None:
    async with server(listener()) as http:
        address = http.addresses[HERE]
        got = {
            path: (await ask(address, path))[:2] for path in ("/healthz", "/readyz", "/healthz/leader-election", "/")
        }
    assert got == {
        "/healthz": (200, "ok"),
        "/readyz": (503, "[-]startup nothing is ready yet\n"),
        "/healthz/leader-election": (404, "404 page not found\n"),
        "/": (404, "404 page not found\n"),
    }


@pytest.mark.parity("R-HTTP-05")
async def test_readiness_follows_the_checks() -> None:
    health, reasons = Health(), [""]
    health.add("driver", lambda: reasons[0])
    async with server(listener(), health=health) as http:
        address = http.addresses[HERE]
        assert (await ask(address, "/readyz"))[:2] == (200, "[+]driver ok\n")
        reasons[0] = "socket is gone"
        assert (await ask(address, "/readyz"))[:2] == (503, "[-]driver socket is gone\n")
        assert (await ask(address, "/healthz"))[:2] == (200, "ok")


async def test_leader_election_has_its_path_only_where_there_is_one() -> None:
    class Stuck:
        def last_renewal_age_s(self) -> float:
            return 36.0

    health = Health(leader_election=True)
    async with server(listener(), health=health) as http:
        address = http.addresses[HERE]
        status, body, headers = await ask(address, "/healthz/leader-election")
        assert (status, body, headers["Content-Type"]) == (200, "ok", "text/plain; charset=utf-8")
        health.watch_lease("attacher", Stuck(), lease_duration_s=15)
        assert (await ask(address, "/healthz/leader-election"))[:2] == (
            500,
            "internal server error: failed election to renew leadership on lease \n",
        )


async def test_metrics_are_text_and_compressed_on_request() -> None:
    async with server(listener(), path="/m") as http:
        address = http.addresses[HERE]
        status, body, headers = await ask(address, "/m", **{"Accept-Encoding": "identity"})
        assert status == 200
        assert "process_cpu_seconds_total" in body
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        _, packed, headers = await ask(address, "/m", **{"Accept-Encoding": "gzip, deflate"})
        assert headers["Content-Encoding"] == "gzip"
        assert packed.startswith("\x1f\x8b")
        assert (await ask(address, "/metrics"))[0] == 404
        assert (await ask(address, "/m", "POST"))[0] == 200


async def test_metrics_address_serves_metrics_alone() -> None:
    async with server(listener(metrics_only=True)) as http:
        address = http.addresses[HERE]
        assert [(await ask(address, path))[0] for path in ("/metrics", "/healthz", "/readyz")] == [200, 404, 404]


async def test_one_address_for_two_purposes_is_opened_once_and_serves_both() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    async with server(listener(address, metrics_only=True), listener(address)) as http:
        assert (await ask(http.addresses[address], "/healthz"))[0] == 200


async def test_default_address_that_is_taken_is_a_warning_and_shows_on_the_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with taken() as address:
        with caplog.at_level(logging.WARNING):
            async with server(listener(address, is_default=True), listener(is_default=True)) as http:
                assert list(http.addresses) == [HERE]
                assert (await ask(http.addresses[HERE], "/healthz"))[0] == 200
    assert "port is taken" in caplog.records[0].__dict__["error"]
    assert address in caplog.records[0].__dict__["error"]


async def test_address_that_was_asked_for_and_is_taken_ends_the_start() -> None:
    async with taken() as address:
        with pytest.raises(StartupError, match=f"--http-endpoint={address} cannot be opened: the port is taken"):
            async with server(listener(), listener(address)):
                pytest.fail("the port is taken")


@pytest.mark.parametrize("address", ["8080", "localhost:http", "::1:80", "127.0.0.1:70000", "127.0.0.1:-1", "a:b:c"])
async def test_address_of_no_shape_ends_the_start(address: str) -> None:
    with pytest.raises(StartupError, match="cannot be opened: "):
        async with server(listener(address)):
            pytest.fail("this is no address")


@pytest.mark.parametrize("address", ["localhost:0", "[::1]:0"])
async def test_host_names_and_ipv6_are_addresses(address: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server(listener(address)) as http:
        host, port = http.addresses[address]
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await writer.wait_closed()


async def test_late_timers_are_a_deadlock() -> None:
    class Jumping(SystemClock):
        jump_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.jump_s

    clock = Jumping()
    async with server(listener(), clock=clock) as http:
        clock.jump_s = 70.0
        status, body, _ = await ask(http.addresses[HERE], "/healthz")
        assert status == 503
        assert "event loop is stuck" in body


async def test_nothing_stays_open_after_the_block() -> None:
    async with server(listener()) as http:
        port = http.addresses[HERE][1]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert http.addresses == {}
