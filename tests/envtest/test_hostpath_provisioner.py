"""The public hostpath driver as a real peer of the provisioner: provision, restore, clone, delete; contents too."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from csisidecar import KubeConfig, LeaseConfig, ModeConfig, Provisioner, ProvisionerSettings, Sidecar, SidecarConfig
from csisidecar.csi import CreateSnapshotRequest, CreateSnapshotResponse
from csisidecar.kube import PERSISTENT_VOLUMES
from csisidecar.runtime import background
from csisidecar.testing.driver import FakeDriver
from tests.envtest.test_hostpath import DRIVER, Peers, peers
from tests.parity.provisioner_plays import CLONE, RESTORE, claim, content, snapshot, storage_class
from tests.parity.provisioner_stage import Stage, install_kinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]


@asynccontextmanager
async def provisioner(them: Peers) -> AsyncIterator[None]:
    config = SidecarConfig(
        kube=KubeConfig(kubeconfig=str(them.kubeconfig)),
        modes={"provisioner": ModeConfig(lease=LeaseConfig(enabled=False))},
    )
    sidecar = Sidecar(config, plugins=[Provisioner(ProvisionerSettings())], csi=them.endpoint)
    async with background(sidecar.run(), name="sidecar"):
        yield


async def saved(stage: Stage, name: str) -> str:
    """The handle of the volume that the claim got."""

    async def there() -> bool:
        return bool(await stage.find_volume(name))

    await stage.until(there)
    return str((await stage.find_volume(name))["spec"]["csi"]["volumeHandle"])


async def take_snapshot(them: Peers, handle: str) -> str:
    request = CreateSnapshotRequest(name="snap", source_volume_id=handle)
    raw = await them.csi.channel.unary("/csi.v1.Controller/CreateSnapshot", bytes(request), 10)
    assert raw is not None
    taken = CreateSnapshotResponse.parse(raw).snapshot
    assert taken is not None
    return taken.snapshot_id


async def test_provision_restore_clone_and_delete_with_the_public_driver(tmp_path: Path) -> None:
    async with peers(tmp_path) as them:
        await install_kinds(them.kube)
        stage = Stage(kube=them.kube, driver=FakeDriver())
        state = tmp_path / "state"
        async with them.driver(), provisioner(them):
            await stage.create(storage_class(provisioner=DRIVER))
            await stage.create(claim("old", provisioner=DRIVER))
            first = await saved(stage, "old")
            (state / first / "file").write_text("kept")
            await stage.bind("old")

            await stage.create(snapshot())
            taken = await take_snapshot(them, first)
            await stage.create(content(driver=DRIVER, status={"snapshotHandle": taken}))
            await stage.create(claim("restored", provisioner=DRIVER, **RESTORE))
            restored = await saved(stage, "restored")
            assert (state / restored / "file").read_text() == "kept"

            await stage.create(claim("cloned", provisioner=DRIVER, **CLONE))
            cloned = await saved(stage, "cloned")
            assert (state / cloned / "file").read_text() == "kept"
            assert len({first, restored, cloned}) == 3

            for name in ("old", "restored", "cloned"):
                await stage.release(name)
            async with asyncio.timeout(20):
                while any((state / handle).exists() for handle in (first, restored, cloned)):
                    await asyncio.sleep(0.1)

            async def ours_are_off() -> bool:
                # What protects volumes in a cluster is nobody's task here.
                found = await stage.list("PersistentVolume")
                return all(each["metadata"].get("finalizers") == ["kubernetes.io/pv-protection"] for each in found)

            await stage.until(ours_are_off)
            for volume in await stage.list("PersistentVolume"):
                assert volume["metadata"]["deletionTimestamp"]
                assert volume["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
                await them.kube.patch(
                    PERSISTENT_VOLUMES, volume["metadata"]["name"], {"metadata": {"finalizers": None}}
                )
