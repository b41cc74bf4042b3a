"""Parts of the system as processes of their own, each ended with the block that started it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STOP_S = 30.0


class ProcessEnded(Exception):  # noqa: N818 - said of another program
    """A process ended by itself; the message has its last words."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A running `csisidecar` command."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """A field of /proc/PID/status: VmRSS is what it holds now, VmHWM the most it ever held."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise LookupError(f"no {field} for process {self.process.pid}")

    def cpu_s(self) -> float:
        """Seconds of CPU time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self) -> None:
        """Raise ProcessEnded if it does not run any more."""
        if self.process.returncode is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            raise ProcessEnded(f"{self.name} ended with {self.process.returncode}:\n" + "\n".join(tail))


@asynccontextmanager
async def program(name: str, *words: str, log: Path) -> AsyncIterator[Program]:
    """`csisidecar WORDS` running beside the block; SIGTERM at its end, SIGKILL if that does not help.

    Args:
        name: for messages.
        words: the command and its flags.
        log: where its output goes.
    """
    with await asyncio.to_thread(log.open, "ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "csisidecar", *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield Program(name=name, process=process, log=log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
