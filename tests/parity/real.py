"""Plays each row against the Go attacher too: same API server, same driver, and says where the two differ."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from csisidecar.config import KubeConfig
from csisidecar.kube import KubeClient, connect
from tests.envtest.control_plane import control_plane, why_not
from tests.parity.attacher_plays import PLAYS
from tests.parity.stage import differences, perform

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.parity.stage import Play

OURS = [sys.executable, "-c", "import sys; from csisidecar.cli import attacher_main; sys.exit(attacher_main())"]


def why_not_real() -> str:
    """Why the Go attacher cannot be played against, empty when it can."""
    folder = os.environ.get("CSI_SIDECARS")
    if not folder:
        return "CSI_SIDECARS is not set: it names the folder with csi-attacher"
    if not (Path(folder) / "csi-attacher").is_file():
        return "the folder of CSI_SIDECARS has no csi-attacher"
    return why_not()


async def play_all(only: str = "") -> AsyncIterator[tuple[Play, list[str]]]:
    """Each play with what differed, or those whose name has `only` in it."""
    go = [str(Path(os.environ["CSI_SIDECARS"]) / "csi-attacher")]
    with tempfile.TemporaryDirectory(prefix="parity") as name:
        folder = Path(name)
        (folder / "plane").mkdir()
        async with (
            control_plane(folder / "plane") as plane,
            connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
        ):
            kube = KubeClient(session)
            for play in PLAYS:
                if only not in play.name:
                    continue
                protocols = [await perform(play, kube, command, plane.kubeconfig, folder) for command in (OURS, go)]
                yield play, differences(*protocols)
