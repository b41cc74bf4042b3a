"""Claims that get no volume: which are left alone without a word, and what the others are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plugins.provisioner.world import DRIVER, World

pytestmark = pytest.mark.looptime

NODE = {"volume.kubernetes.io/selected-node": "node1"}
SNAPSHOT = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}

REFUSED: list[Any] = [
    ("missing class", None, {}, 'storageClass "fast" not found'),
    (
        "class of another provisioner",
        {"provisioner": "other.io"},
        {},
        f'storageClass "fast" has provisioner other.io, but the claim is addressed to {DRIVER}',
    ),
    ("selector", {}, {"selector": {"matchLabels": {"a": "b"}}}, "claim Selector is not supported"),
    ("empty selector", {}, {"selector": {}}, "claim Selector is not supported"),
    (
        "two file system keys",
        {"parameters": {"csi.storage.k8s.io/fstype": "xfs", "FSType": "xfs"}},
        {},
        'fstype specified in parameters with both "fstype" and "csi.storage.k8s.io/fstype" keys',
    ),
    (
        "unknown key with our prefix",
        {"parameters": {"csi.storage.k8s.io/pvc/name": "mine"}},
        {},
        (
            "failed to strip CSI Parameters of prefixed keys: found unknown parameter key"
            ' "csi.storage.k8s.io/pvc/name" with reserved namespace csi.storage.k8s.io/'
        ),
    ),
    (
        "half a secret pair",
        {"parameters": {"csi.storage.k8s.io/node-stage-secret-name": "s"}},
        {},
        (
            "failed to get name and namespace template from params:"
            " either name and namespace for NodeStage secrets specified, Both must be specified"
        ),
    ),
    (
        "missing secret",
        {
            "parameters": {
                "csi.storage.k8s.io/provisioner-secret-name": "gone",
                "csi.storage.k8s.io/provisioner-secret-namespace": "team",
            }
        },
        {},
        'error getting secret gone in namespace team: secrets "gone" not found',
    ),
    (
        "snapshot of a foreign group",
        {},
        {"dataSource": {**SNAPSHOT, "apiGroup": "example.com"}},
        "the PVC source does not belong to the right APIGroup. Expected snapshot.storage.k8s.io, Got example.com",
    ),
    (
        "source in another namespace",
        {},
        {"dataSourceRef": {**SNAPSHOT, "namespace": "elsewhere"}},
        "dataSourceRef namespace specified but the CrossNamespaceVolumeDataSource feature is disabled",
    ),
    (
        "snapshot that the driver cannot restore",
        {},
        {"dataSource": SNAPSHOT},
        "CSI driver does not support snapshot restore: controller CREATE_DELETE_SNAPSHOT capability is not reported",
    ),
    (
        "claim that the driver cannot clone",
        {},
        {"dataSource": {"kind": "PersistentVolumeClaim", "name": "old"}},
        "CSI driver does not support clone operations: controller CLONE_VOLUME capability is not reported",
    ),
    (
        "volume attributes class that the driver cannot apply",
        {},
        {"volumeAttributesClassName": "silver"},
        "CSI driver does not support VolumeAttributesClass: controller MODIFY_VOLUME capability is not reported",
    ),
]


@pytest.mark.parity("P-CLAIM-05", "P-CLAIM-07")
@pytest.mark.parametrize(("storage_class", "claim", "text"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
async def test_claim_is_told_why_and_the_driver_is_not_called(
    storage_class: dict[str, Any] | None, claim: dict[str, Any], text: str
) -> None:
    world = World()
    if storage_class is not None:
        world.add_class(**storage_class)
    world.add_claim(**claim)
    await world.run()
    assert len(world.warnings()) == 1
    assert text in world.warnings()[0]
    assert {reason for kind, reason, _ in world.events() if kind == "Warning"} == {"ProvisioningFailed"}
    assert list(world.driver.ledger) == []
    assert world.api.count("persistentvolumes") == 0
    # The API server fills dataSource from dataSourceRef, so either way the metric knows the kind.
    source = (claim.get("dataSource") or claim.get("dataSourceRef") or {}).get("kind", "")
    if "namespace" in claim.get("dataSourceRef", {}):
        source = ""
    assert world.numbers.total("controller_persistentvolumeclaim_provision_failed_total", "fast", source) == 1


@pytest.mark.parity("P-CLAIM-06")
async def test_populator_kinds_are_left_to_their_populator() -> None:
    world = World()
    world.add_class()
    world.add_claim(dataSourceRef={"apiGroup": "example.com", "kind": "Book", "name": "b"})
    await world.run(seconds=600)
    assert world.events() == [
        ("Normal", "Provisioning", 'External provisioner is provisioning volume for claim "team/data"'),
        ("Normal", "Provisioning", "Assuming an external populator will provision the volume"),
    ]
    assert list(world.driver.ledger) == []


@pytest.mark.parity("P-CLAIM-02")
@pytest.mark.parametrize(
    "claim",
    [
        {"provisioner": "other.io"},
        {"provisioner": ""},
        # Being migrated to us is not enough: the claim must also name us or the plugin we took over.
        {"provisioner": "other.io", "annotations": {"pv.kubernetes.io/migrated-to": DRIVER}},
        {"storageClassName": "late"},
        {"storageClassName": "late", "annotations": {"volume.kubernetes.io/selected-node": ""}},
        {"storageClassName": "late", "annotations": {"volume.alpha.kubernetes.io/selected-node": "node1"}},
    ],
)
async def test_claim_that_is_not_ours_or_not_ready_is_left_alone_without_a_word(claim: dict[str, Any]) -> None:
    world = World()
    world.add_class("fast")
    world.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    world.add_claim(**claim)
    await world.run(seconds=1000)
    assert world.events() == []
    assert world.wire.requests == []
    assert list(world.driver.ledger) == []
    assert world.numbers.seen == {}


@pytest.mark.parity("P-CLAIM-03")
async def test_claim_being_deleted_gets_no_new_volume() -> None:
    world = World()
    world.add_class()
    world.add_claim()
    world.api.delete("persistentvolumeclaims", "data", "team")
    held = world.api.get("persistentvolumeclaims", "data", "team")
    assert held is not None, "pvc-protection holds it"
    await world.run(seconds=10)
    assert world.calls() == []
    assert world.events() == []


async def test_late_binding_claim_is_provisioned_as_soon_as_a_node_is_selected() -> None:
    world = World()
    world.add_class(volumeBindingMode="WaitForFirstConsumer")
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(5)
        assert world.calls() == []

        def select(obj: dict[str, Any]) -> None:
            obj["metadata"]["annotations"].update(NODE)

        world.api.edit("persistentvolumeclaims", "data", select, "team")
        await asyncio.sleep(0.5)
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("P-CLAIM-01")
async def test_old_provisioner_annotation_counts_only_without_the_new_one() -> None:
    world = World()
    world.add_class()
    uid = world.add_claim()
    old = {"volume.beta.kubernetes.io/storage-provisioner": DRIVER}

    def only_old(obj: dict[str, Any]) -> None:
        obj["metadata"]["annotations"] = dict(old)

    world.api.edit("persistentvolumeclaims", "data", only_old, "team")
    world.add_claim("other", provisioner="", annotations=old)
    await world.run()
    assert [request.name for request in world.calls()] == [f"pvc-{uid}"]


@pytest.mark.parity("P-CLAIM-04")
async def test_class_that_appears_wakes_the_claims_that_wait_for_it() -> None:
    world = World()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(100)
        assert world.calls() == []
        world.add_class()
        await asyncio.sleep(0.2)
        assert world.volume(uid)["metadata"]["name"] == f"pvc-{uid}"


@pytest.mark.parity("P-CLAIM-08")
@pytest.mark.parametrize(
    ("plugin", "controller", "text"),
    [
        (
            frozenset[str](),
            frozenset({"CREATE_DELETE_VOLUME"}),
            "CSI driver does not support dynamic provisioning: plugin CONTROLLER_SERVICE capability is not reported",
        ),
        (
            frozenset({"CONTROLLER_SERVICE"}),
            frozenset[str](),
            (
                "CSI driver does not support dynamic provisioning: controller CREATE_DELETE_VOLUME capability is not"
                " reported"
            ),
        ),
    ],
)
async def test_driver_without_the_needed_capability(
    plugin: frozenset[str], controller: frozenset[str], text: str
) -> None:
    world = World(plugin_capabilities=plugin, controller=controller)
    world.add_class()
    world.add_claim()
    world.add_volume("pv1")
    await world.run()
    assert sorted(world.warnings()) == [text, text]
    assert list(world.driver.ledger) == []
