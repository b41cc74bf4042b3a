"""The plays of one provisioner a node: whose a claim is and who deletes its volume, ours and Go's side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

    Words = Sequence[str]

PLAYS: tuple[str, ...] = ()


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """Each play's name, its rows, and what differed; `commands` start ours and Go's."""
    for name in PLAYS:
        if only in name:
            yield name, (), []
