"""Names the attacher writes on objects; they are the Go attacher's, so that either can take over from the other."""

from __future__ import annotations

import re

NODE_ID_ANNOTATION = "csi.alpha.kubernetes.io/node-id"
"""On a VolumeAttachment: the node id used for publishing, kept for a detach after the CSINode is gone."""

MIGRATED_TO_ANNOTATION = "pv.kubernetes.io/migrated-to"
"""On a PersistentVolume with an in-tree source: the CSI driver that serves it now."""

_REFUSED = re.compile(r"[^A-Za-z0-9-]")


def sanitize(name: str) -> str:
    """`name` with every character but ASCII letters, digits and dashes made a dash, never ending in one.

    Case is kept and nothing is cut. Source: external-attacher `pkg/controller/util.go`, SanitizeDriverName.
    """
    clean = _REFUSED.sub("-", name)
    return f"{clean}X" if clean.endswith("-") else clean


def finalizer_name(driver_name: str) -> str:
    """The finalizer on attachments and on volumes: ``external-attacher/csi-test-io`` for ``csi.test.io``."""
    return f"external-attacher/{sanitize(driver_name)}"


def lease_name(driver_name: str) -> str:
    """Name of the Lease: ``external-attacher-leader-csi-test-io`` for ``csi.test.io``."""
    return sanitize(f"external-attacher-leader-{driver_name}")
