"""The processes peers meet: our commands and other people's binaries, each ended with its block."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.peers.outcome import NotRunError, PeerFailedError
from tests.whole.processes import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

START_S = 20.0
STOP_S = 20.0
LOG_TAIL = 1500


def find_binary(name: str, *variables: str) -> Path:
    """A binary that a variable names, by itself or in its folder.

    Raises:
        NotRunError: none does.
    """
    for variable in variables:
        value = os.environ.get(variable)
        if not value:
            continue
        for path in (Path(value), Path(value) / name):
            if path.is_file() and os.access(path, os.X_OK):
                return path
    raise NotRunError(f"no {name}: set {' or '.join(variables)} to it or to its folder")


def find_on_path(name: str, *variables: str) -> Path:
    """As `find_binary`, and on the PATH after that."""
    try:
        return find_binary(name, *variables)
    except NotRunError:
        found = shutil.which(name)
        if found is None:
            raise NotRunError(f"no {name} on the PATH, and {' or '.join(variables)} does not name one") from None
        return Path(found)


async def run(*words: str | Path, timeout_s: float = 60.0, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """What a program wrote to stdout.

    Raises:
        PeerFailedError: it ended with another code than 0, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if env is None else {**os.environ, **env},
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PeerFailedError(f"{_shown(words)} did not end within {timeout_s:g} s") from None
    if process.returncode:
        raise PeerFailedError(f"{_shown(words)} ended with {process.returncode}: {(err or out).decode()[-LOG_TAIL:]}")
    return out.decode()


def _shown(words: tuple[str | Path, ...]) -> str:
    return " ".join([Path(words[0]).name, *map(str, words[1:])])[:200]


@asynccontextmanager
async def process(name: str, *words: str | Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program beside the block; SIGTERM at its end, SIGKILL if that does not help."""
    with log.open("ab") as out:
        started = await asyncio.create_subprocess_exec(
            *map(str, words), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield started
        if started.returncode not in {None, -signal.SIGKILL}:
            raise PeerFailedError(f"{name} ended with {started.returncode}: {_tail(log)}")
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await started.wait()
            except TimeoutError:
                started.kill()
                await started.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:]


def csisidecar(*words: str | Path) -> tuple[str | Path, ...]:
    """The words that run one of our commands."""
    return (sys.executable, "-m", "csisidecar", *words)


@asynccontextmanager
async def ours(folder: Path, name: str, *words: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of our commands beside the block."""
    async with process(name, *csisidecar(*words), log=folder / f"{name}.log") as started:
        yield started


async def until(holds: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Returns once it holds.

    Raises:
        PeerFailedError: not in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise PeerFailedError(f"{what}: not within {timeout_s:g} s") from None


@dataclass
class Server:
    """An embedded API server as a process, and a small client of it."""

    folder: Path
    kubeconfig: Path
    url: str
    session: aiohttp.ClientSession
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it by force, as a node that loses power does."""
        self.process.kill()
        await self.process.wait()

    async def request(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        """Status and body."""
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": media} if body is not None else {}
        async with self.session.request(method, self.url + path, json=body, params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    async def create(self, path: str, body: Any) -> Any:
        """The created object."""
        status, found = await self.request("POST", path, body)
        if status != 201:
            raise PeerFailedError(f"POST {path}: {found}")
        return found

    async def items(self, path: str) -> list[Any]:
        """Every object of a collection."""
        _, found = await self.request("GET", path)
        items: list[Any] = found["items"]
        return items

    async def until(self, path: str, holds: Callable[[list[Any]], bool], what: str, timeout_s: float = 60.0) -> None:
        """Returns once the objects of a collection are as wanted.

        Raises:
            PeerFailedError: not in time; the message has the last objects.
        """
        items: list[Any] = []
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(items := await self.items(path)):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise PeerFailedError(f"{what}: not within {timeout_s:g} s; there is {str(items)[:LOG_TAIL]}") from None

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, *flags: str | Path, port: int = 0) -> AsyncIterator[Self]:
        """`csisidecar demo-apiserver` until the end of the block."""
        kubeconfig = folder / "kubeconfig"
        kubeconfig.unlink(missing_ok=True)
        port = port or free_port()
        words = ("demo-apiserver", "--kubeconfig-out", kubeconfig, "--port", str(port), *flags)
        async with ours(folder, "apiserver", *words) as started, aiohttp.ClientSession() as session:
            await until(kubeconfig.exists, "demo-apiserver's kubeconfig")
            yield cls(folder, kubeconfig, f"http://127.0.0.1:{port}", session, started)
