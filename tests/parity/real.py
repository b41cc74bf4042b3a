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
from tests.parity import (
    attacher_plays,
    capacity_plays,
    node_plays,
    provisioner_plays,
    provisioner_stage,
    stage,
    topology_plays,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    Said = AsyncIterator[tuple[str, Sequence[str], list[str]]]
    """Name, rows and differences of each play."""

FLAGS = ("--feature-gates=CrossNamespaceVolumeDataSource=true",)
"""Of kube-apiserver: without, it drops the namespace of a data source."""


FAMILIES = (topology_plays, capacity_plays, node_plays)
"""What the subject topology plays, one after the other; the provisioner does all of it."""


def why_not_real(mode: str) -> str:
    """Why the Go sidecar cannot be played against, empty when it can."""
    folder, sidecar = os.environ.get("CSI_SIDECARS"), f"csi-{plugin_of(mode)}"
    if not folder:
        return f"CSI_SIDECARS is not set: it names the folder with {sidecar}"
    if not (Path(folder) / sidecar).is_file():
        return f"the folder of CSI_SIDECARS has no {sidecar}"
    return why_not()


def commands_of(mode: str) -> tuple[Sequence[str], Sequence[str]]:
    """The words that start ours, and those that start Go's."""
    plugin = plugin_of(mode)
    ours = [sys.executable, "-c", f"import sys; from csisidecar.cli import {plugin}_main; sys.exit({plugin}_main())"]
    return ours, [str(Path(os.environ["CSI_SIDECARS"]) / f"csi-{plugin}")]


def plugin_of(mode: str) -> str:
    """The Go sidecar that a mode or subject is played against."""
    return "provisioner" if mode == "topology" else mode


async def play_all(mode: str, only: str = "") -> Said:
    """Each play's name, its rows, and what differed; or those whose name has `only` in it."""
    commands = commands_of(mode)
    with tempfile.TemporaryDirectory(prefix="parity") as name:
        folder = Path(name)
        (folder / "plane").mkdir()
        async with (
            control_plane(folder / "plane", flags=FLAGS) as plane,
            connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
        ):
            kube = KubeClient(session)
            if mode == "topology":
                for family in FAMILIES:
                    async for said in family.play_all(kube, commands, plane.kubeconfig, folder, only):
                        yield said
            elif mode == "attacher":
                for play in attacher_plays.PLAYS:
                    if only in play.name:
                        done = [await stage.perform(play, kube, words, plane.kubeconfig, folder) for words in commands]
                        yield play.name, play.rows, stage.differences(*done)
            else:
                await provisioner_stage.install_kinds(kube)
                for each in provisioner_plays.PLAYS:
                    if only in each.name:
                        left = [
                            await provisioner_stage.perform(each, kube, words, plane.kubeconfig, folder)
                            for words in commands
                        ]
                        yield each.name, each.rows, provisioner_stage.differences(*left)
