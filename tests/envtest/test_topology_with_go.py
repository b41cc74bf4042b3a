"""The same claims on the same nodes of a real API server: what the Go provisioner and ours ask the driver for."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import KubeConfig
from csisidecar.errors import NotFoundError
from csisidecar.kube import (
    CSI_NODES,
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    STORAGE_CLASSES,
    KubeClient,
    connect,
)
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.envtest.control_plane import control_plane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = [pytest.mark.whole, pytest.mark.timeout(300)]

DRIVER = "places.csi.test"
SELECTED = "volume.kubernetes.io/selected-node"
GO = os.environ.get("CSI_SIDECARS", "")


def classes() -> list[dict[str, Any]]:
    def build(name: str, *terms: Mapping[str, str]) -> dict[str, Any]:
        allowed = [
            {"matchLabelExpressions": [{"key": key, "values": text.split(",")} for key, text in term.items()]}
            for term in terms
        ]
        body: dict[str, Any] = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": DRIVER,
            "volumeBindingMode": "Immediate",
        }
        return body | ({"allowedTopologies": allowed} if allowed else {})

    four = {"zone": "z1,z2", "rack": "r1,r2"}
    return [build("plain"), build("ca", {"zone": "c,a"}), build("four", four), build("five", {"zone": "z1"}, four)]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Some claims, decided by one run of a provisioner."""

    name: str
    labels: Mapping[str, Mapping[str, str]]
    keys: Mapping[str, Sequence[str]]
    claims: Sequence[tuple[str, str, str]]
    """Name, class, selected node."""
    flags: Sequence[str] = field(default=())


A_LABELS = {"n1": {"zone": "b"}, "n2": {"zone": "a"}, "n3": {"zone": "c"}, "n4": {"zone": "a"}}
A_KEYS = dict.fromkeys(A_LABELS, ("zone",))
B_LABELS = {
    "n1": {"zone": "z2", "rack": "r1"},
    "n2": {"zone": "z1", "rack": "r1"},
    "n3": {"zone": "z1", "rack": "r2"},
}
B_KEYS = dict.fromkeys(B_LABELS, ("zone", "rack"))
C_LABELS = {"n1": {"zone": "z1"}, "n2": {"zone": "z1", "rack": "r1"}, "n5": {"zone": "z9", "rack": "r9"}}
C_KEYS = {"n1": ("zone",), "n2": ("zone", "rack")}

SPREAD = [(name, "plain", "") for name in ("data-web-0", "data-web-1", "data-web-2", "logs-web-2", "pvc-4294967296")]
LOOSE_A = [
    ("a6", "plain", "n1"),
    ("data-web-7", "ca", ""),
    ("a9", "ca", "n3"),
    ("a11", "ca", "n1"),
    ("e1", "plain", "n9"),
]
STRICT_A = [("a7", "plain", "n1"), ("a10", "ca", "n3"), ("a12", "ca", "n1")]
LOOSE_B = [
    ("b1", "plain", "n1"),
    ("b2", "four", "n1"),
    ("data-web-1", "four", ""),
    ("b4", "five", "n2"),
    ("b5", "five", "n1"),
]
ROUNDS = [
    Round(name="a", labels=A_LABELS, keys=A_KEYS, claims=[*SPREAD, *LOOSE_A]),
    Round(name="a-strict", labels=A_LABELS, keys=A_KEYS, claims=STRICT_A, flags=["--strict-topology"]),
    Round(
        name="a-late",
        labels=A_LABELS,
        keys=A_KEYS,
        claims=[("a5", "plain", ""), ("data-web-1", "ca", "")],
        flags=["--immediate-topology=false"],
    ),
    Round(name="b", labels=B_LABELS, keys=B_KEYS, claims=LOOSE_B),
    Round(name="b-strict", labels=B_LABELS, keys=B_KEYS, claims=[("b6", "five", "n2")], flags=["--strict-topology"]),
    Round(name="c", labels=C_LABELS, keys=C_KEYS, claims=[("c1", "plain", "n1"), ("c2", "plain", "n2")]),
]


async def arrange(kube: KubeClient, each: Round) -> None:
    """Exactly the nodes of the round."""
    for name in ("n1", "n2", "n3", "n4", "n5"):
        for resource in (NODES, CSI_NODES):
            with suppress(NotFoundError):
                await kube.delete(resource, name)
    for name, labels in each.labels.items():
        await kube.create(
            NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels)}}
        )
    for name, keys in each.keys.items():
        driver = {"name": DRIVER, "nodeID": name, "topologyKeys": list(keys)}
        body = {"metadata": {"name": name}, "spec": {"drivers": [driver]}}
        await kube.create(CSI_NODES, {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})


async def decide(kube: KubeClient, each: Round, words: Sequence[str], who: str, kubeconfig: Path, folder: Path) -> Any:
    """Claim → requisite and preferred of its first CreateVolume, or its first warning."""
    namespace = f"{who}-{each.name}"
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    everywhere = tuple(dict(place) for place in each.labels.values())
    extra = tuple({"zone": zone, "rack": rack} for zone in ("z1", "z2") for rack in ("r1", "r2"))
    driver = FakeDriver(
        DriverSettings(
            name=DRIVER,
            topology=everywhere[0],
            places=(*everywhere, *extra),
            plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
            controller_capabilities=frozenset({"CREATE_DELETE_VOLUME"}),
        )
    )
    uids = {}
    for name, storage_class, node in each.claims:
        annotations = {"volume.kubernetes.io/storage-provisioner": DRIVER} | ({SELECTED: node} if node else {})
        made = await kube.create(
            PERSISTENT_VOLUME_CLAIMS,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": storage_class,
                    "resources": {"requests": {"storage": "1Mi"}},
                },
            },
            namespace=namespace,
        )
        uids[f"pvc-{made['metadata']['uid']}"] = name
    found: dict[str, Any] = {}
    socket = folder / f"{namespace}.sock"
    async with driver.serving(socket):
        command = [*words, f"--csi-address={socket}", f"--kubeconfig={kubeconfig}", *each.flags]
        with (folder / f"{namespace}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            try:
                async with asyncio.timeout(30):
                    while len(found) < len(uids):
                        await asyncio.sleep(0.2)
                        for call in driver.calls("CreateVolume"):
                            if call.request.name in uids:
                                found.setdefault(uids[call.request.name], places(call.request))
                        await find_warnings(kube, namespace, found)
            except TimeoutError:
                pytest.fail(f"{namespace}: {(folder / f'{namespace}.log').read_text()[-2000:]}")
            finally:
                process.kill()
                await process.wait()
    # What is left unfinished must not be taken up by the next one.
    for name, _, _ in each.claims:
        await kube.delete(PERSISTENT_VOLUME_CLAIMS, name, namespace=namespace)
        with suppress(NotFoundError):
            await kube.patch(PERSISTENT_VOLUME_CLAIMS, name, {"metadata": {"finalizers": None}}, namespace=namespace)
    return found


def places(request: Any) -> Any:
    asked = request.accessibility_requirements
    if asked is None:
        return None
    return [[place.segments for place in terms] for terms in (asked.requisite, asked.preferred)]


async def find_warnings(kube: KubeClient, namespace: str, found: dict[str, Any]) -> None:
    import json

    for event in json.loads(await kube.list_page(EVENTS, namespace=namespace))["items"]:
        name, text = event["involvedObject"]["name"], event.get("message", "")
        if event.get("reason") == "ProvisioningFailed" and name not in found:
            # Go's text from the client library on; ours has what it adds behind.
            found[name] = text.partition(" (first: ")[0].removeprefix('failed to provision volume with StorageClass "')


@pytest.mark.skipif(not GO, reason="CSI_SIDECARS is not set: it names the folder with csi-provisioner")
async def test_both_ask_for_the_same_places(tmp_path: Path) -> None:
    ours = [sys.executable, "-c", "import sys; from csisidecar.cli import provisioner_main as m; sys.exit(m())"]
    theirs = [str(Path(GO) / "csi-provisioner")]
    async with (
        control_plane(tmp_path) as plane,
        connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
    ):
        kube = KubeClient(session)
        for body in classes():
            await kube.create(STORAGE_CLASSES, body)
        for each in ROUNDS:
            await arrange(kube, each)
            first = await decide(kube, each, theirs, "go", plane.kubeconfig, tmp_path)
            second = await decide(kube, each, ours, "ours", plane.kubeconfig, tmp_path)
            if each.name == "a":
                zones = [[place["zone"] for place in terms] for terms in first["a6"]]
                assert zones == [["a", "b", "c"], ["b", "c", "a"]]
                assert "is not in requisite" in first["a11"]
            for name, wanted in first.items():
                got = second[name]
                if isinstance(wanted, str):
                    assert isinstance(got, str), (each.name, name)
                    assert wanted.endswith(got) or got in wanted, (each.name, name, wanted, got)
                else:
                    assert got == wanted, (each.name, name)
