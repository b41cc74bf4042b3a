"""Plays each row against the Go sidecar too: same API server, same driver, and says where the two differ."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from csisidecar.config import KubeConfig
from csisidecar.kube import KubeClient, connect
from tests.envtest.control_plane import control_plane, why_not
from tests.parity import attacher_plays, provisioner_plays, provisioner_stage, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

FLAGS = ("--feature-gates=CrossNamespaceVolumeDataSource=true",)
"""Of kube-apiserver: without, it drops the namespace of a data source."""


def _ours(mode: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; from csisidecar.cli import {mode}_main; sys.exit({mode}_main())"]


def why_not_real(mode: str) -> str:
    """Why the Go sidecar cannot be played against, empty when it can."""
    folder = os.environ.get("CSI_SIDECARS")
    if not folder:
        return f"CSI_SIDECARS is not set: it names the folder with csi-{mode}"
    if not (Path(folder) / f"csi-{mode}").is_file():
        return f"the folder of CSI_SIDECARS has no csi-{mode}"
    return why_not()


async def play_all(mode: str, only: str = "") -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """Each play's name, its rows, and what differed; or those whose name has `only` in it."""
    go = [str(Path(os.environ["CSI_SIDECARS"]) / f"csi-{mode}")]
    commands = (_ours(mode), go)
    with tempfile.TemporaryDirectory(prefix="parity") as name:
        folder = Path(name)
        (folder / "plane").mkdir()
        async with (
            control_plane(folder / "plane", flags=FLAGS) as plane,
            connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
        ):
            kube = KubeClient(session)
            if mode == "attacher":
                for play in attacher_plays.PLAYS:
                    if only in play.name:
                        done = [await stage.perform(play, kube, words, plane.kubeconfig, folder) for words in commands]
                        yield play.name, play.rows, stage.differences(*done)
                return
            await provisioner_stage.install_kinds(kube)
            for each in provisioner_plays.PLAYS:
                if only in each.name:
                    left = [
                        await provisioner_stage.perform(each, kube, words, plane.kubeconfig, folder)
                        for words in commands
                    ]
                    yield each.name, each.rows, provisioner_stage.differences(*left)
