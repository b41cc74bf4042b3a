"""HTTP to the API server: the seam where tests put another one, and the aiohttp session that is used.

A session knows addresses, headers, time-outs and bytes. It knows nothing of resources, JSON or statuses: those
are the client's. Where addresses and credentials come from is `connect`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlencode

from csisidecar.errors import UnreachableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping, Sequence

    import aiohttp

logger = logging.getLogger(__name__)

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
LONGEST_LINE_BYTES = 64 * 2**20
LONGEST_ERROR_BYTES = 2**20
_READ_BUFFER_BYTES = 2**18


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A whole answer. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class StreamResponse(Protocol):
    """An answer whose body is read line by line while the server goes on writing."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header name → value."""
        ...

    def lines(self) -> AsyncIterator[bytes]:
        """Each line without its end; raises UnreachableError when the body breaks off or falls silent."""
        ...

    async def read(self) -> bytes:
        """The body so far and to its end, for the answers that are errors."""
        ...


class KubeSession(Protocol):
    """Requests to one API server. Raises UnreachableError when no answer comes; any status is an answer."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        timeout_s: float,
    ) -> Response:
        """The whole answer, within `timeout_s` from now."""
        ...

    def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        idle_timeout_s: float,
    ) -> AbstractAsyncContextManager[StreamResponse]:
        """A GET whose body is streamed; more than `idle_timeout_s` without a byte ends it."""
        ...


class Credentials(Protocol):
    """What goes into the Authorization header, now."""

    async def authorization(self) -> str:
        """The header's value; empty for none."""
        ...

    def rejected(self) -> None:
        """The API server answered 401: fetch anew before the next request."""
        ...


class Anonymous:
    """No Authorization header: client certificates, or nothing at all."""

    async def authorization(self) -> str:
        """Nothing."""
        return ""

    def rejected(self) -> None:
        """Nothing to fetch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the API server is and how to speak to it."""

    host: str
    """URL without a slash at its end."""
    user_agent: str
    ssl_context: ssl.SSLContext | None = None
    server_name: str | None = None
    """Name in the server's certificate, if not the host's."""
    proxy: str | None = None
    credentials: Credentials = field(default_factory=Anonymous)


class HTTPSession:
    """KubeSession over aiohttp. Use as a context manager; leaving it closes every connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        # Watches hold one connection each, so a ceiling here would be a deadlock; rates are the limiter's.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0, ssl=self._target.ssl_context or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=True,
            headers={"User-Agent": self._target.user_agent, "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        timeout_s: float,
    ) -> Response:
        """The whole answer, within `timeout_s` from now."""
        import aiohttp

        try:
            async with asyncio.timeout(timeout_s), await self._send(method, path, query, headers, body) as answer:
                content = await answer.read()
        except TimeoutError as error:
            raise UnreachableError(f"no answer from {self._target.host} within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"no answer from {self._target.host}: {_reason(error)}") from error
        return Response(status=answer.status, headers=answer.headers, body=content)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        idle_timeout_s: float,
    ) -> AsyncIterator[StreamResponse]:
        """A GET whose body is streamed; more than `idle_timeout_s` without a byte ends it."""
        import aiohttp

        try:
            async with asyncio.timeout(idle_timeout_s):
                answer = await self._send("GET", path, query, headers, None)
        except TimeoutError as error:
            raise UnreachableError(f"no answer from {self._target.host} within {idle_timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"no answer from {self._target.host}: {_reason(error)}") from error
        try:
            yield _HTTPStream(answer, self._target.host, idle_timeout_s)
        finally:
            # The rest of the body is not wanted: close, so that the connection is not kept for another request.
            answer.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> aiohttp.ClientResponse:
        from yarl import URL

        if self._session is None:
            raise UnreachableError("the session with the API server is closed")
        options: dict[str, Any] = {}
        if self._target.server_name:
            options["server_hostname"] = self._target.server_name
        if self._target.proxy:
            options["proxy"] = self._target.proxy
        sent = dict(headers)
        authorization = await self._target.credentials.authorization()
        if authorization:
            sent["Authorization"] = authorization
        url = f"{self._target.host}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        answer = await self._session.request(
            method, URL(url, encoded=True), headers=sent, data=body, allow_redirects=False, **options
        )
        if answer.status == 401:
            self._target.credentials.rejected()
        return answer


class _HTTPStream:
    def __init__(self, answer: aiohttp.ClientResponse, host: str, idle_timeout_s: float) -> None:
        self._answer = answer
        self._host = host
        self._idle_timeout_s = idle_timeout_s

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    def lines(self) -> AsyncIterator[bytes]:
        return LineReader(self._chunk)

    async def read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size < LONGEST_ERROR_BYTES and (chunk := await self._chunk()):
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts)

    async def _chunk(self) -> bytes:
        import aiohttp

        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await self._answer.content.readany()
        except TimeoutError as error:
            raise UnreachableError(f"{self._host} sent nothing for {self._idle_timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"{self._host} broke off the answer: {_reason(error)}") from error


class ChunkSource(Protocol):
    """Gives the next bytes of a body, empty at its end."""

    async def __call__(self) -> bytes:
        """The next bytes."""
        ...


class LineReader:
    """Lines out of chunks, of any length up to `LONGEST_LINE_BYTES`; an iterator, so that nothing is left to close.

    A last line without its end is given as it is: whether it is whole is for its reader to find out.
    """

    def __init__(self, chunk: ChunkSource) -> None:
        self._chunk = chunk
        self._ready: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._ended = False

    def __aiter__(self) -> LineReader:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            self._take(await self._chunk())
        return self._ready.popleft()

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            self._ended = True
            if self._rest:
                self._ready.append(b"".join(self._rest))
            return
        *complete, tail = chunk.split(b"\n")
        if complete:
            # Joined once per line and not per chunk: a line of several MiB arrives in hundreds of chunks.
            complete[0] = b"".join([*self._rest, complete[0]])
            self._ready.extend(complete)
            self._rest, self._rest_bytes = [], 0
        if tail:
            self._rest.append(tail)
            self._rest_bytes += len(tail)
            if self._rest_bytes > LONGEST_LINE_BYTES:
                raise UnreachableError(f"the API server sent a line longer than {LONGEST_LINE_BYTES} bytes")


def _reason(error: BaseException) -> str:
    """One line, never empty."""
    return " ".join(str(error).split()) or type(error).__name__
