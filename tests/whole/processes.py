"""Programs of this package as child processes, ended by their own id, for tests that must see a process."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def free_port() -> int:
    """A loopback port that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One child process; everything it wrote is in `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def exit_code(self, timeout_s: float = 15) -> int:
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


@asynccontextmanager
async def program(
    *words: str, log: Path, env: dict[str, str] | None = None, command: str = ""
) -> AsyncIterator[Program]:
    """`csisidecar WORDS`, or the drop-in `command` with WORDS, until the end of the block."""
    start = [str(Path(sys.executable).with_name(command))] if command else [sys.executable, "-m", "csisidecar"]
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(*start, *words, stdout=out, stderr=out, env=env)
    try:
        yield Program(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def eventually(check: Callable[[], bool], timeout_s: float) -> float:
    """Seconds until `check` was true; AssertionError when it took longer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not check():
        if loop.time() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s")
        await asyncio.sleep(0.02)
    return loop.time() - began


async def readiness(port: int) -> tuple[int, str]:
    """Status and body of /readyz; (0, reason) when nothing answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientError as error:
        return 0, str(error)


async def ready_within(port: int, status: int, timeout_s: float) -> str:
    """The body of /readyz once it answers `status`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (found := await readiness(port))[0] != status:
        if loop.time() - began > timeout_s:
            raise AssertionError(f"/readyz is not {status} within {timeout_s:g} s but {found}")
        await asyncio.sleep(0.05)
    return found[1]


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path
