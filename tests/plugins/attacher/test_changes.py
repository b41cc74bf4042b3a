from __future__ import annotations

from typing import Any

import msgspec
import pytest

from csisidecar.kube import Attachment, CSINode, Volume
from csisidecar.plugins.attacher.changes import NodeIdChanged, OwnAttachmentChanged, VolumeMayBeGivenBack
from csisidecar.runtime import Change
from tests.plugins.attacher.world import DRIVER, FINALIZER, NODE_ID, attachment, node, volume

COUNTS = OwnAttachmentChanged(DRIVER, FINALIZER)
ERROR = {"message": "boom", "time": "2026-11-21T12:00:00Z", "errorCode": 13}
LATER = {**ERROR, "time": "2026-11-21T12:00:09Z"}


def view(obj: dict[str, Any], *, version: str, uid: str = "u") -> Attachment:
    return msgspec.convert({**obj, "metadata": {**obj["metadata"], "uid": uid, "resourceVersion": version}}, Attachment)


def va(**more: Any) -> dict[str, Any]:
    return attachment(**more)


def failed(error: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return attachment(**more, status={"attached": False, "attachError": error or ERROR})


DETACH_FAILED = {"attached": True, "detachError": ERROR}

CASES = [
    ("no-error-before-or-after", va(), va(), True),
    ("error-saved-first-time", va(), failed(), False),
    ("error-moves-its-time", failed(), failed(LATER), False),
    ("error-cleared", failed(), va(status={"attached": False}), False),
    ("detach-error-saved", va(deleted=True), va(deleted=True, status=DETACH_FAILED | {"attached": False}), False),
    ("absent-status-equals-empty-status", failed(), va(status={}), False),
    ("empty-metadata-equals-absent", failed(), {**failed(), "metadata": {"name": "va1", "finalizers": []}}, False),
    ("error-saved-and-attached", va(), va(status={"attached": True, "attachError": ERROR}), True),
    ("deleted-with-an-error", failed(finalizers=[FINALIZER]), failed(finalizers=[FINALIZER], deleted=True), True),
    ("other-annotation-with-an-error", failed(), failed(annotations={"poke": "me"}), True),
    ("other-finalizer-with-an-error", failed(), failed(finalizers=["x"]), True),
    ("our-marks-come-on", va(), va(finalizers=[FINALIZER], annotations={NODE_ID: "n"}), False),
    ("our-marks-come-on-with-an-error", failed(), failed(finalizers=[FINALIZER], annotations={NODE_ID: "n"}), False),
    ("our-marks-and-another-finalizer", va(), va(finalizers=["x", FINALIZER], annotations={NODE_ID: "n"}), True),
    ("node-id-changes", failed(annotations={NODE_ID: "a"}), failed(annotations={NODE_ID: "b"}), False),
    (
        "node-id-changes-while-leaving",
        va(deleted=True, finalizers=[FINALIZER], status=DETACH_FAILED),
        va(deleted=True, finalizers=[FINALIZER], status=DETACH_FAILED, annotations={NODE_ID: "b"}),
        True,
    ),
    ("our-finalizer-removed-by-hand", failed(finalizers=[FINALIZER]), failed(), True),
    ("marks-come-on-while-deletion-begins", va(), va(finalizers=[FINALIZER], deleted=True), True),
    ("attached", va(finalizers=[FINALIZER]), va(finalizers=[FINALIZER], status={"attached": True}), True),
]


@pytest.mark.parity("A-OWN-03")
@pytest.mark.parametrize(("old", "new", "counts"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_which_changes_of_our_attachments_count(old: dict[str, Any], new: dict[str, Any], counts: bool) -> None:
    assert COUNTS(Change(view(old, version="1"), view(new, version="2"))) is counts


def test_appearing_going_resync_and_a_new_uid_always_count() -> None:
    seen = view(failed(), version="1")
    assert COUNTS(Change(None, seen))
    assert COUNTS(Change(seen, None))
    assert COUNTS(Change(seen, seen))
    assert COUNTS(Change(seen, view(failed(), version="2", uid="other")))


def test_nothing_of_another_driver_counts() -> None:
    foreign = view(attachment(attacher="other"), version="1")
    assert not COUNTS(Change(None, foreign))
    assert not COUNTS(Change(foreign, foreign))
    assert not COUNTS(Change(foreign, None))


MIGRATED_TO = "pv.kubernetes.io/migrated-to"
EBS = {"awsElasticBlockStore": {"volumeID": "v"}}


@pytest.mark.parametrize(
    ("pv", "counts"),
    [
        (volume(finalizers=[FINALIZER]), False),
        (volume(finalizers=[FINALIZER], deleted=True), True),
        (volume(finalizers=["x"], deleted=True), False),
        (volume(finalizers=[FINALIZER], spec=EBS), True),
        (volume(finalizers=[FINALIZER], spec=EBS, annotations={MIGRATED_TO: "other"}), True),
        (volume(finalizers=[FINALIZER], spec=EBS, annotations={MIGRATED_TO: DRIVER}), False),
        (volume(finalizers=[FINALIZER], spec=EBS, annotations={MIGRATED_TO: DRIVER}, deleted=True), True),
    ],
)
def test_which_volumes_may_be_given_back(pv: dict[str, Any], counts: bool) -> None:
    found = msgspec.convert(pv, Volume)
    wanted = VolumeMayBeGivenBack(driver=DRIVER, finalizer=FINALIZER)
    assert wanted(Change(None, found)) is counts
    assert wanted(Change(found, found)) is counts
    assert not wanted(Change(found, None))


def test_only_a_changed_node_id_of_our_driver_wakes_attachments() -> None:
    known, other = msgspec.convert(node(), CSINode), msgspec.convert(node(driver="other"), CSINode)
    renamed = msgspec.convert(node(node_id="n2"), CSINode)
    changed = NodeIdChanged(DRIVER)
    assert changed(Change(None, known))
    assert changed(Change(other, known))
    assert changed(Change(known, renamed))
    assert changed(Change(known, other))
    assert not changed(Change(known, known))
    assert not changed(Change(None, other))
