"""What an attachment points at: the volume as the driver knows it, and the node as the driver knows it.

Everything is looked up in the stores, once per attempt; nothing here waits. The texts of the errors end up in
attachError and detachError, where operators know them from the Go attacher.

Source: external-attacher `pkg/controller/csi_handler.go`, getProcessedPV and getNodeID; `pkg/controller/util.go`,
GetNodeIDFromCSINode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration import complete_handle, find_by_driver, view_to_csi
from csisidecar.plugins.attacher.names import NODE_ID_ANNOTATION

if TYPE_CHECKING:
    from csisidecar.kube import Attachment, CSINode, Volume
    from csisidecar.kube.objects import CSISource, VolumeSpec
    from csisidecar.runtime import Store


@dataclass(frozen=True, kw_only=True)
class Target:
    """The volume to publish or unpublish."""

    csi: CSISource
    """Volume handle, file system type, attributes, secret reference."""
    spec: VolumeSpec
    """Access modes, volume mode, mount options."""
    volume: Volume | None
    """The PersistentVolume, None for an inline volume."""
    is_migrated: bool = False
    """Whether the volume has an in-tree source, translated here."""


def find_target(attachment: Attachment, volumes: Store[Volume], *, for_attach: bool) -> Target:
    """The volume that `attachment` names, or carries inline.

    Args:
        attachment: one of ours.
        volumes: the cluster's PersistentVolumes.
        for_attach: whether a volume that is being deleted is refused.

    Raises:
        UnusableObjectError: no volume, two volumes, one being deleted, or one that CSI knows nothing of.
    """
    source = attachment.spec.source
    name, inline = source.persistent_volume_name, source.inline_volume_spec
    if name is not None and inline is not None:
        raise UnusableObjectError("both InlineCSIVolumeSource and PersistentVolumeName specified in VA source")
    if name is not None:
        volume = volumes.find(name)
        if volume is None:
            raise UnusableObjectError(f'persistentvolume "{name}" not found')
        if for_attach and volume.is_deleting:
            raise UnusableObjectError(f'PersistentVolume "{name}" is marked for deletion')
        return target_of(volume)
    if inline is None:
        raise UnusableObjectError("neither InlineCSIVolumeSource nor PersistentVolumeName specified in VA source")
    if inline.csi is None:
        raise UnusableObjectError("inline volume spec contains nil CSI source")
    return Target(csi=inline.csi, spec=inline, volume=None)


def target_of(volume: Volume) -> Target:
    """`volume` as CSI knows it.

    Raises:
        UnusableObjectError: its source is neither CSI's nor that of an in-tree plugin, or says what CSI cannot.
    """
    spec, is_migrated = volume.spec, bool(volume.in_tree_source)
    if is_migrated:
        try:
            spec = view_to_csi(volume)
        except UnusableObjectError as error:
            raise UnusableObjectError(f"failed to translate in tree pv to CSI: {error}") from error
    if spec.csi is None:
        raise UnusableObjectError("pv spec contained non-csi source that was not migrated")
    return Target(csi=spec.csi, spec=spec, volume=volume, is_migrated=is_migrated)


def handle_on(target: Target, node_id: str, driver: str) -> str:
    """The volume's handle as the driver lists it.

    A translated one may lack parts that the driver knows from the node. Inline volumes arrive translated, so those of
    the drivers that took over an in-tree plugin are completed too.

    Raises:
        UnusableObjectError: handle or node id lacks the parts, or the driver took over from no in-tree plugin.
    """
    handle = target.csi.volume_handle
    if target.is_migrated or (target.volume is None and find_by_driver(driver) is not None):
        return complete_handle(driver, handle, node_id)
    return handle


def find_node_id(attachment: Attachment, nodes: Store[CSINode], driver: str) -> str:
    """The driver's name for the attachment's node, from its CSINode; may be empty if the driver says so.

    Raises:
        UnusableObjectError: no CSINode, or the driver is not registered on it.
    """
    name = attachment.spec.node_name
    node = nodes.find(name)
    if node is None:
        raise UnusableObjectError(f'csinode.storage.k8s.io "{name}" not found')
    entry = node.find_driver(driver)
    if entry is None:
        raise UnusableObjectError(f"CSINode {name} does not contain driver {driver}")
    return entry.node_id


def find_node_id_or_kept(attachment: Attachment, nodes: Store[CSINode], driver: str) -> str:
    """As `find_node_id`, but when the node is gone, the node id that was kept on the attachment when it attached.

    Raises:
        UnusableObjectError: neither the CSINode nor the attachment knows.
    """
    try:
        return find_node_id(attachment, nodes, driver)
    except UnusableObjectError:
        kept = attachment.annotations.get(NODE_ID_ANNOTATION)
        if kept is None:
            raise
        return kept
