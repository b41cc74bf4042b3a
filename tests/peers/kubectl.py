"""kubectl, unchanged, on every kind the server has by itself."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from tests.peers.outcome import NotRunError, PeerFailedError
from tests.peers.world import Server, find_on_path, run

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = "directories.csi.demo"
WITHOUT_STRATEGIC = ("snapshot.storage.k8s.io", "gateway.networking.k8s.io")
FIRST_WITH_ATTRIBUTES_V1 = 34
"""Minor version of kubectl; a server of 1.36 has no older version of the kind."""
_STORAGE, _SNAPSHOT = "storage.k8s.io/v1", "snapshot.storage.k8s.io/v1"


def _object(api_version: str, kind: str, name: str, *, namespaced: bool = False, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": "peers"} if namespaced else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def objects() -> list[dict[str, Any]]:
    """One object of every kind."""
    mount = {"accessModes": ["ReadWriteOnce"], "storageClassName": "peer"}
    csi = {"driver": DRIVER, "volumeHandle": "h"}
    pod = {"containers": [{"name": "main", "image": "busybox:1"}]}
    involved = {"kind": "Pod", "namespace": "peers", "name": "peer"}
    reference = {"from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": "far"}]}
    return [
        _object("v1", "Namespace", "peers"),
        _object("v1", "Node", "peer"),
        _object("v1", "PersistentVolume", "peer", spec={**mount, "capacity": {"storage": "1Gi"}, "csi": csi}),
        _object(
            "v1",
            "PersistentVolumeClaim",
            "peer",
            namespaced=True,
            spec={**mount, "resources": {"requests": {"storage": "1Gi"}}},
        ),
        _object("v1", "Secret", "peer", namespaced=True, stringData={"a": "b"}),
        _object("v1", "ConfigMap", "peer", namespaced=True, data={"a": "b"}),
        _object("v1", "Pod", "peer", namespaced=True, spec=pod),
        _object(
            "v1", "Event", "peer", namespaced=True, involvedObject=involved, reason="r", message="m", type="Normal"
        ),
        _object(_STORAGE, "StorageClass", "peer", provisioner=DRIVER, parameters={"a": "b"}),
        _object(
            _STORAGE,
            "VolumeAttachment",
            "peer",
            spec={"attacher": DRIVER, "nodeName": "peer", "source": {"persistentVolumeName": "peer"}},
        ),
        _object(_STORAGE, "CSINode", "peer", spec={"drivers": [{"name": DRIVER, "nodeID": "peer"}]}),
        _object(_STORAGE, "CSIDriver", DRIVER, spec={"attachRequired": True}),
        _object(
            _STORAGE,
            "CSIStorageCapacity",
            "peer",
            namespaced=True,
            storageClassName="peer",
            capacity="1Gi",
            nodeTopology={"matchLabels": {"zone": "a"}},
        ),
        _object(_STORAGE, "VolumeAttributesClass", "peer", driverName=DRIVER, parameters={"tier": "gold"}),
        _object("coordination.k8s.io/v1", "Lease", "peer", namespaced=True, spec={"holderIdentity": "me"}),
        _object(_SNAPSHOT, "VolumeSnapshotClass", "peer", driver=DRIVER, deletionPolicy="Delete"),
        _object(
            _SNAPSHOT,
            "VolumeSnapshot",
            "peer",
            namespaced=True,
            spec={"source": {"persistentVolumeClaimName": "peer"}, "volumeSnapshotClassName": "peer"},
        ),
        _object(
            _SNAPSHOT,
            "VolumeSnapshotContent",
            "peer",
            spec={
                "driver": DRIVER,
                "deletionPolicy": "Delete",
                "source": {"snapshotHandle": "s"},
                "volumeSnapshotRef": {"name": "peer", "namespace": "peers"},
            },
        ),
        _object(
            "gateway.networking.k8s.io/v1beta1",
            "ReferenceGrant",
            "peer",
            namespaced=True,
            spec={**reference, "to": [{"group": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}]},
        ),
    ]


@dataclass
class Kubectl:
    """Runs it and counts."""

    binary: Path
    kubeconfig: Path
    done: list[str] = field(default_factory=list)

    async def __call__(self, step: str, *words: str | Path, stdin: str = "") -> str:
        home = {"HOME": str(self.kubeconfig.parent)}
        text = await run(self.binary, "--kubeconfig", self.kubeconfig, *words, stdin=stdin, env=home)
        self.done.append(step)
        return text

    async def refused(self, step: str, wanted: str, *words: str | Path, stdin: str = "") -> None:
        """A call that must fail, and with which words."""
        try:
            await self(step, *words, stdin=stdin)
        except PeerFailedError as error:
            if wanted not in str(error):
                raise
            self.done.append(step)
        else:
            raise PeerFailedError(f"kubectl did not refuse: {step}")


async def kubectl(folder: Path) -> str:
    """What ran.

    Raises:
        NotRunError: no kubectl is found.
        PeerFailedError: a call did not do what it does on a real server.
    """
    binary = find_on_path("kubectl", "KUBECTL", "KUBEBUILDER_ASSETS")
    version = await _version(binary)
    async with Server.running(folder) as server:
        call = Kubectl(binary, server.kubeconfig)
        kinds = objects()
        everything = _write(folder / "all.yaml", kinds)
        custom = [item for item in kinds if item["apiVersion"].partition("/")[0] in WITHOUT_STRATEGIC]
        await _apply(call, folder, everything)
        await _look(call, everything, kinds)
        known = kinds
        if int(version.split(".")[1]) < FIRST_WITH_ATTRIBUTES_V1:
            known = [item for item in kinds if item["kind"] != "VolumeAttributesClass"]
            call.done.append("(describe of VolumeAttributesClass left out: this kubectl asks for v1beta1)")
        await _describe(call, _write(folder / "known.yaml", known))
        await _patch(call, everything, _write(folder / "typed.yaml", [item for item in kinds if item not in custom]))
        await _ask(call)
        await _follow(call)
        last_first = _write(folder / "reversed.yaml", kinds[::-1])
        await call("delete", "delete", "-f", last_first, "--wait=false", "--ignore-not-found")
    return f"{version}: {len(kinds)} kinds; {'; '.join(dict.fromkeys(call.done))}"


async def _version(binary: Path) -> str:
    with suppress(PeerFailedError, ValueError, KeyError):
        found = json.loads(await run(binary, "version", "--client", "-o", "json"))["clientVersion"]["gitVersion"]
        if re.fullmatch(r"v1\.\d+\.\d+\S*", found):
            return str(found)
    raise NotRunError(f"{binary.name} on the PATH is no kubectl: it does not tell a version")


def _write(path: Path, items: list[dict[str, Any]]) -> Path:
    path.write_text(yaml.safe_dump_all(items))
    return path


async def _apply(call: Kubectl, folder: Path, everything: Path) -> None:
    await call("apply with default validation", "apply", "-f", everything)
    again = await call("apply again", "apply", "-f", everything)
    changed = [line for line in again.splitlines() if not line.endswith("unchanged")]
    # Secrets are sent with stringData, which the server turns into data; so they are never the same.
    if [line for line in changed if not line.startswith("secret/")]:
        raise PeerFailedError(f"apply again changed something: {changed}")
    await call("apply --server-side", "apply", "--server-side", "--force-conflicts", "-f", everything)
    await call("apply --dry-run=server", "apply", "--dry-run=server", "-f", everything)
    # kubectl checks the items of a List itself, against the document that it gets in protobuf form.
    items = [item for item in yaml.safe_load_all(everything.read_text()) if item["kind"] != "Secret"]
    everything_listed = {"apiVersion": "v1", "kind": "List", "items": items}
    await call("apply a List", "apply", "-f", "-", stdin=yaml.safe_dump(everything_listed))
    await call("diff", "diff", "-f", folder / "all.yaml")
    unknown = yaml.safe_dump(_object("v1", "ConfigMap", "odd", namespaced=True, dota={"a": "b"}))
    await call.refused(
        "apply of an unknown field is refused", 'unknown field "dota"', "apply", "-f", "-", stdin=unknown
    )
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(unknown)]})
    await call.refused(
        "apply of an unknown field in a List is refused", 'unknown field "dota"', "apply", "-f", "-", stdin=listed
    )
    await call("create", "create", "configmap", "made", "-n", "peers", "--from-literal=a=b")


async def _look(call: Kubectl, everything: Path, kinds: list[dict[str, Any]]) -> None:
    text = await call("get -o wide", "get", "-f", everything, "-o", "wide")
    for heading in ("STORAGECLASS", "ATTACHER", "PROVISIONER", "HOLDER", "SNAPSHOTCLASS"):
        if heading not in text:
            raise PeerFailedError(f"get shows no column {heading}: {text}")
    columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid"
    text = await call("get -o custom-columns", "get", "-f", everything, "-o", columns)
    if len(text.splitlines()) != len(kinds) + 1:
        raise PeerFailedError(f"get shows other objects: {text}")
    await call("get -o yaml", "get", "-f", everything, "-o", "yaml")
    await call("get by short names", "get", "pv,pvc,sc,vac,no,ns,po,ev,vs,vsc,vsclass", "-A")
    await call("get --chunk-size", "get", "pv", "--chunk-size=1", "--sort-by=.metadata.name")
    await call("get events.k8s.io", "get", "events.events.k8s.io", "-n", "peers")


async def _describe(call: Kubectl, everything: Path) -> None:
    text = await call("describe", "describe", "-f", everything)
    for part in ("Name:         peer", "VolumeHandle:", "StorageClass:  peer", "Finalizers:    [kubernetes.io/pvc"):
        if part not in text:
            raise PeerFailedError(f"describe does not show {part!r}")


async def _patch(call: Kubectl, everything: Path, typed: Path) -> None:
    await call("patch merge", "patch", "-f", everything, "--type=merge", "-p", '{"metadata":{"labels":{"m":"1"}}}')
    operations = '[{"op":"test","path":"/metadata/labels/m","value":"1"},{"op":"remove","path":"/metadata/labels/m"}]'
    await call("patch json", "patch", "-f", everything, "--type=json", "-p", operations)
    await call("patch strategic", "patch", "-f", typed, "--type=strategic", "-p", '{"metadata":{"labels":{"s":"1"}}}')
    status = '{"status":{"attached":true}}'
    await call(
        "patch --subresource=status",
        *("patch", "volumeattachment", "peer", "--subresource=status", "--type=merge", "-p", status),
    )
    await call("label", "label", "-f", everything, "l=1")
    await call("annotate", "annotate", "-f", everything, "a=1")
    replacement = await call("get one", "get", "sc", "peer", "-o", "json")
    await call("replace", "replace", "-f", "-", stdin=replacement)


async def _ask(call: Kubectl) -> None:
    if "yes" not in await call("auth can-i", "auth", "can-i", "delete", "persistentvolumes"):
        raise PeerFailedError("auth can-i does not say yes")
    await call("auth can-i --list", "auth", "can-i", "--list")
    await call("auth whoami", "auth", "whoami")
    await call("api-resources", "api-resources", "-o", "wide")
    await call("api-versions", "api-versions")
    await call("version", "version")
    text = await call("explain", "explain", "persistentvolumes.spec.csi.volumeHandle")
    if "volumeHandle" not in text:
        raise PeerFailedError(f"explain: {text}")
    await call("get --raw", "get", "--raw", "/readyz")


async def _follow(call: Kubectl) -> None:
    claim = ("pvc", "peer", "-n", "peers")
    await call("wait --for=jsonpath", "wait", "--for=jsonpath={.status.phase}=Pending", *claim, "--timeout=10s")
    line = await call(
        "get --watch", "get", "cm", "made", "-n", "peers", "--watch", "--request-timeout=2s", "-o", "name"
    )
    if "configmap/made" not in line:
        raise PeerFailedError(f"get --watch: {line}")
    await call("delete --wait", "delete", "cm", "made", "-n", "peers", "--wait")
    await call("delete held by a finalizer", "delete", *claim, "--wait=false")
    off = '{"metadata":{"finalizers":null}}'
    await call("patch a finalizer off", "patch", *claim, "--type=merge", "-p", off)
    await call("wait --for=delete", "wait", "--for=delete", *claim, "--timeout=10s")
    await call("delete --cascade=orphan", "delete", "lease", "peer", "-n", "peers", "--cascade=orphan")
    await call("delete by label", "delete", "sc", "-l", "l=1")
