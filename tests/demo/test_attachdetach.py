"""Which VolumeAttachments a volume needs."""

from __future__ import annotations

from typing import Any

import msgspec

from csisidecar.demo.controllers.attachdetach import attachment_name, build_attachment, plan_attachments
from csisidecar.kube.objects import Attachment
from tests.demo.objects import ref, volume

PV = volume(phase="Bound", claimRef=ref())
SHARED = volume(phase="Bound", claimRef=ref(), accessModes=["ReadWriteMany"])


def attachment(node: str, *, name: str = "", **meta: Any) -> Attachment:
    made = build_attachment(PV, node)
    made["metadata"].update(meta)
    if name:
        made["metadata"]["name"] = name
    return msgspec.convert(made, Attachment)


def test_name_is_the_hash_that_kubernetes_uses() -> None:
    # The digest of "abc", as FIPS 180 prints it.
    assert attachment_name("a", "b", "c") == "csi-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_volume_is_attached_where_it_is_wanted_and_detached_elsewhere() -> None:
    plan = plan_attachments(SHARED, wanted={"n1", "n2"}, existing=[attachment("n2"), attachment("n3")], attachable=True)
    assert plan.attach == ("n1",)
    assert [a.spec.node_name for a in plan.detach] == ["n3"]


def test_exclusive_volume_waits_until_it_has_left_the_other_node() -> None:
    leaving = attachment("n1", deletionTimestamp="2026-01-01T00:00:00Z")
    plan = plan_attachments(PV, wanted={"n2"}, existing=[leaving], attachable=True)
    assert (plan.attach, plan.detach, plan.blocked) == ((), (), ("n2",))
    assert plan_attachments(PV, wanted={"n2"}, existing=[], attachable=True).attach == ("n2",)


def test_exclusive_volume_wanted_on_two_nodes_goes_to_one() -> None:
    plan = plan_attachments(PV, wanted={"n1", "n2"}, existing=[], attachable=True)
    assert (plan.attach, plan.blocked) == (("n1",), ("n2",))


def test_attachment_of_somebody_else_is_left_alone() -> None:
    theirs = attachment("n1", name="by-hand")
    assert plan_attachments(PV, wanted=set(), existing=[theirs], attachable=True).detach == ()


def test_driver_that_needs_no_attachment_gets_none_and_loses_those_it_had() -> None:
    plan = plan_attachments(PV, wanted={"n1"}, existing=[attachment("n2")], attachable=False)
    assert plan.attach == ()
    assert [a.spec.node_name for a in plan.detach] == ["n2"]


def test_volume_of_no_csi_driver_needs_nothing() -> None:
    assert not plan_attachments(volume(csi=None), wanted={"n1"}, existing=[], attachable=True).attach
