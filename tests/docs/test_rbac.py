"""The roles of each mode: enough for a volume's whole life, and nothing in them that is never used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from csisidecar.cli.rbac import Wish, page
from tests.whole.role_life import Grant, Process, live, placed, roles_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

NAMESPACE = "csi-hostpath"
MODES = ("attacher", "provisioner")

RARE: Mapping[tuple[str, Grant], str] = {
    ("attacher-attacher", ("", "persistentvolumes", "get")): (
        "reads a volume again whose finalizers changed between our copy and our patch, or that the watch does not show"
    ),
    ("attacher-attacher", ("", "volumeattachments.storage.k8s.io", "get")): ("the same for an attachment"),
}
"""What a life without accidents does not need, and why it is granted all the same."""


@pytest.mark.parity("R-LEASE-13")
async def test_each_mode_lives_with_its_role_alone_and_needs_all_of_it(tmp_path: Path) -> None:
    texts = {
        mode: page(Wish(account=mode, namespace=NAMESPACE, without=("attributes",), words=(f"--mode={mode}",)))
        for mode in MODES
    }
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text("---\n".join(texts.values()))
    processes = {mode: Process(account=mode, namespace=NAMESPACE, words=(f"--mode={mode}", "--v=2")) for mode in MODES}
    world = await live(rbac, list(processes.values()), placed(), tmp_path, secrets=True)
    assert world.refused == []
    assert {"AttachFailed", "Attached", "ProvisioningFailed", "ProvisioningSucceeded", "LeaderElection"} <= world.events
    unused = {
        (role, grant)
        for mode, text in texts.items()
        for role, grants in roles_in(text).items()
        for grant in grants - world.used[processes[mode].user]
    }
    assert unused <= set(RARE)
