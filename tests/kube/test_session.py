"""Bytes over real sockets: lines of any length, silence, breaks, credentials. Short waits, few tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.errors import UnreachableError
from csisidecar.kube import LineReader
from csisidecar.kube.session import HTTPSession, Target
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LONG = b"x" * (5 * 2**20)


@given(st.lists(st.sampled_from((b"", b"a", b"bc\n", b"\n", b"d\ne", b"\n\n")), max_size=12))
def test_lines_do_not_depend_on_how_the_body_is_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    left = [chunk for chunk in chunks if chunk]

    async def chunk() -> bytes:
        return left.pop(0) if left else b""

    async def check() -> None:
        assert [line async for line in LineReader(chunk)] == (whole if whole[-1] else whole[:-1])

    whole = body.split(b"\n")
    run_virtual(check())


class Rotating:
    """Credentials that are good from the second try on."""

    def __init__(self) -> None:
        self.token = "old"
        self.rejections = 0

    async def authorization(self) -> str:
        return f"Bearer {self.token}"

    def rejected(self) -> None:
        self.rejections += 1
        self.token = "new"


@asynccontextmanager
async def served(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], credentials: Rotating | None = None
) -> AsyncIterator[HTTPSession]:
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    target = Target(host=f"http://127.0.0.1:{port}", user_agent="csi-attacher/1.2")
    if credentials is not None:
        target = Target(host=target.host, user_agent=target.user_agent, credentials=credentials)
    try:
        async with HTTPSession(target) as session:
            yield session
    finally:
        await runner.cleanup()


async def test_request_carries_path_query_headers_and_body_as_they_are() -> None:
    seen: list[tuple[str, str, str, bytes]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.method, request.raw_path, request.headers["User-Agent"], await request.read()))
        return web.Response(status=418, body=b"tea", headers={"Retry-After": "3"})

    async with served(answer) as session:
        got = await session.request(
            "PATCH",
            "/a%20b",
            query=[("x", "1 &"), ("y", "=")],
            headers={"Content-Type": "t/t"},
            body=b"{}",
            timeout_s=5,
        )
    assert (got.status, got.body, got.headers["retry-after"]) == (418, b"tea", "3")
    assert seen == [("PATCH", "/a%20b?x=1+%26&y=%3D", "csi-attacher/1.2", b"{}")]


async def test_long_lines_arrive_whole_and_a_silent_server_ends_the_stream() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"a"')
        await response.write(b":1}\n\n" + LONG + b"\nrest")
        await asyncio.sleep(10)
        return response

    got: list[bytes] = []

    async def read(session: HTTPSession) -> None:
        async with session.stream("/watch", idle_timeout_s=0.3) as stream:
            async for line in stream.lines():
                got.append(line)  # noqa: PERF401 - what came before the silence counts

    async with served(answer) as session:
        with pytest.raises(UnreachableError, match="sent nothing for"):
            await read(session)
    assert got == [b'{"a":1}', b"", LONG]


async def test_connection_cut_in_the_middle_is_no_orderly_end() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\ntw")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def read(session: HTTPSession) -> list[bytes]:
        async with session.stream("/watch", idle_timeout_s=5) as stream:
            return [line async for line in stream.lines()]

    async with served(answer) as session:
        with pytest.raises(UnreachableError, match="broke off"):
            await read(session)


async def test_orderly_end_gives_the_last_line_even_without_its_end() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"one\ntwo")

    async with served(answer) as session, session.stream("/watch", idle_timeout_s=5) as stream:
        assert stream.status == 200
        assert [line async for line in stream.lines()] == [b"one", b"two"]


async def test_hanging_server_ends_a_request_at_its_deadline() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    async with served(answer) as session:
        with pytest.raises(UnreachableError, match="within 0"):
            await session.request("GET", "/", timeout_s=0.2)
        with pytest.raises(UnreachableError, match="within 0"):
            async with session.stream("/", idle_timeout_s=0.2):
                pytest.fail("the server did not answer")


async def test_refused_connection_is_no_answer() -> None:
    async with HTTPSession(Target(host="http://127.0.0.1:1", user_agent="x")) as session:
        with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1:1"):
            await session.request("GET", "/", timeout_s=5)


async def test_rejected_credentials_are_fetched_anew_for_the_next_request() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=200 if request.headers["Authorization"] == "Bearer new" else 401)

    credentials = Rotating()
    async with served(answer, credentials) as session:
        statuses = [(await session.request("GET", "/", timeout_s=5)).status for _ in range(2)]
    assert statuses == [401, 200]
    assert credentials.rejections == 1


async def test_redirects_are_not_followed_with_our_credentials() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/steal"})

    async with served(answer, Rotating()) as session:
        assert (await session.request("GET", "/", timeout_s=5)).status == 302


async def test_closed_session_answers_nothing() -> None:
    session = HTTPSession(Target(host="http://127.0.0.1:1", user_agent="x"))
    with pytest.raises(UnreachableError, match="closed"):
        await session.request("GET", "/", timeout_s=5)
