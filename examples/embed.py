"""A driver and its sidecar in one program: the driver's services are handed over as objects, no socket is involved.

    python examples/embed.py                      on an embedded API server, nothing else needed
    python examples/embed.py --kubeconfig FILE    on a cluster: one class and one claim are made, and deleted again

It provisions one claim, tells what happened, cleans up and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from csisidecar import (
    Attacher,
    AttacherSettings,
    KubeConfig,
    LeaseConfig,
    ModeConfig,
    Provisioner,
    ProvisionerSettings,
    Sidecar,
    SidecarConfig,
)
from csisidecar.csi import (
    ControllerBase,
    ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse,
    ControllerServiceCapability,
    ControllerServiceCapabilityRpc,
    ControllerServiceCapabilityRpcType,
    CreateVolumeRequest,
    CreateVolumeResponse,
    DeleteVolumeRequest,
    DeleteVolumeResponse,
    GetPluginCapabilitiesRequest,
    GetPluginCapabilitiesResponse,
    GetPluginInfoRequest,
    GetPluginInfoResponse,
    IdentityBase,
    PluginCapability,
    PluginCapabilityService,
    PluginCapabilityServiceType,
    ProbeRequest,
    ProbeResponse,
    Volume,
)
from csisidecar.errors import CsiSidecarError, NotFoundError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, KubeClient, connect
from csisidecar.runtime import background, unwrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

NAME = "embedded.csi.example.com"
WAIT_S = 30.0


# ---- the driver


class Identity(IdentityBase):
    """Who the driver is."""

    async def probe(self, _: ProbeRequest) -> ProbeResponse:
        """Always ready."""
        return ProbeResponse(ready=True)

    async def get_plugin_info(self, _: GetPluginInfoRequest) -> GetPluginInfoResponse:
        """The name that classes have as provisioner."""
        return GetPluginInfoResponse(name=NAME, vendor_version="1.0")

    async def get_plugin_capabilities(self, _: GetPluginCapabilitiesRequest) -> GetPluginCapabilitiesResponse:
        """There is a controller service."""
        service = PluginCapabilityService(type=PluginCapabilityServiceType.CONTROLLER_SERVICE)
        return GetPluginCapabilitiesResponse(capabilities=[PluginCapability(service=service)])


class Controller(ControllerBase):
    """Volumes that exist in memory alone; asked twice for one name, it gives the same volume."""

    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}

    async def controller_get_capabilities(
        self, _: ControllerGetCapabilitiesRequest
    ) -> ControllerGetCapabilitiesResponse:
        """Volumes come and go; nothing is attached."""
        rpc = ControllerServiceCapabilityRpc(type=ControllerServiceCapabilityRpcType.CREATE_DELETE_VOLUME)
        return ControllerGetCapabilitiesResponse(capabilities=[ControllerServiceCapability(rpc=rpc)])

    async def create_volume(self, request: CreateVolumeRequest) -> CreateVolumeResponse:
        """A volume as large as asked for."""
        size = request.capacity_range.required_bytes if request.capacity_range else 0
        volume = Volume(volume_id=f"volume-of-{request.name}", capacity_bytes=size)
        return CreateVolumeResponse(volume=self.volumes.setdefault(request.name, volume))

    async def delete_volume(self, request: DeleteVolumeRequest) -> DeleteVolumeResponse:
        """Gone; also when it was gone before."""
        self.volumes = {name: it for name, it in self.volumes.items() if it.volume_id != request.volume_id}
        return DeleteVolumeResponse()


# ---- the program


async def main(kubeconfig: str) -> None:
    """Driver and sidecar live in this program's own task group until the claim's life is over."""
    controller = Controller()
    kube = KubeConfig(kubeconfig=kubeconfig, user_agent="embed-example")
    alone = ModeConfig(lease=LeaseConfig(enabled=False))  # one replica; several need their Leases
    sidecar = Sidecar(
        SidecarConfig(kube=kube, modes={"attacher": alone, "provisioner": alone}),
        plugins=[Attacher(AttacherSettings()), Provisioner(ProvisionerSettings())],
        csi=[Identity(), controller],
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(sidecar.run())
        async with connect(kube) as session:
            await live(KubeClient(session), controller)
        sidecar.stop()  # drains; run() returns and the group ends


async def live(client: KubeClient, controller: Controller) -> None:
    """One claim from its creation to nothing left."""
    storage_class, claim = build_objects()
    await client.create(STORAGE_CLASSES, storage_class)
    try:
        made = await client.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace="default")
        print(f"claim {made['metadata']['name']} made")

        async def bound_claim() -> dict[str, Any] | None:
            found = await client.get(PERSISTENT_VOLUME_CLAIMS, made["metadata"]["name"], namespace="default")
            return found if (found.get("status") or {}).get("phase") == "Bound" else None

        bound = await until("the claim is Bound", bound_claim)
        name = bound["spec"]["volumeName"]
        volume = await client.get(PERSISTENT_VOLUMES, name)
        print(f"claim is Bound to {volume['spec']['capacity']['storage']}, {volume['spec']['csi']['volumeHandle']}")
        print(f"the driver has {len(controller.volumes)} volume")
        await client.delete(PERSISTENT_VOLUME_CLAIMS, made["metadata"]["name"], namespace="default")

        async def volume_gone() -> bool:
            try:
                await client.get(PERSISTENT_VOLUMES, name)
            except NotFoundError:
                return True
            return False

        await until("the volume is gone", volume_gone)
        print(f"claim deleted, the driver has {len(controller.volumes)} volumes")
    finally:
        await client.delete(STORAGE_CLASSES, storage_class["metadata"]["name"])


def build_objects() -> tuple[dict[str, Any], dict[str, Any]]:
    """A class of the driver, and a claim of that class."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "embed-example"},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "embed-example", "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "embed-example",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return storage_class, claim


async def until(what: str, look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, once it finds something."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise SystemExit(f"not within {WAIT_S:g} s: {what}") from None


@asynccontextmanager
async def embedded_cluster() -> AsyncIterator[str]:
    """An API server on loopback with stand-ins for the cluster's controllers; gives its kubeconfig."""
    from csisidecar.demo.controllers import ControllersOptions, serve
    from csisidecar.testing.apiserver import FakeAPIServer

    with tempfile.TemporaryDirectory() as directory:
        kubeconfig = Path(directory) / "kubeconfig"
        async with FakeAPIServer() as server:
            server.write_kubeconfig(kubeconfig)
            async with background(serve(ControllersOptions(kubeconfig=str(kubeconfig))), name="controllers"):
                yield str(kubeconfig)


async def run(kubeconfig: str) -> None:
    """`main` on the cluster that was named, or on an embedded one."""
    if kubeconfig:
        await main(kubeconfig)
        return
    async with embedded_cluster() as embedded:
        await main(embedded)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", default="", help="a cluster to use; default: an embedded API server")
    try:
        asyncio.run(run(parser.parse_args().kubeconfig))
    except* CsiSidecarError as errors:
        sys.exit(f"embed.py: {unwrap(errors)}")
