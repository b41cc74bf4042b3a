"""The plays of topology: the same claims on the same nodes; what both ask the driver for, and what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.parity import provisioner_stage, topology_life, topology_requests
from tests.parity.topology_stage import perform, surprises

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

    Words = Sequence[str]

SCENES = (*topology_requests.SCENES, *topology_life.SCENES)
OURS_ALONE = frozenset({"VolumeElsewhere"})
"""Reasons of Events that Go does not know."""


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str = ""
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """Each play's name, its rows, and what differed; `commands` start ours and Go's."""
    await provisioner_stage.install_kinds(kube)
    for scene in SCENES:
        # What happens in a scene counts on all of its claims: others are decided too, but not told of.
        cases = [case for case in scene.cases if only in f"{scene.name}: {case.name}"]
        if not cases:
            continue
        ours, go = [await perform(scene, kube, words, kubeconfig, folder) for words in commands]
        for case in cases:
            mine, theirs = ours[case.claim_name], go[case.claim_name]
            lines = [
                f"{who}: {line}" for who, did in (("ours", mine), ("Go  ", theirs)) for line in surprises(case, did)
            ]
            if case.either:
                mine, theirs = (replace(did, calls=[], objects={}) for did in (mine, theirs))
            mine = replace(mine, events={event for event in mine.events if event[2] not in OURS_ALONE})
            yield f"{scene.name}: {case.name}", case.rows, [*lines, *provisioner_stage.differences(mine, theirs)]
