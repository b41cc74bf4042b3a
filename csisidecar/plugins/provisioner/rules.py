"""What the provisioner asks the API server for, by feature; a change of a verb in this folder is a change here."""

from __future__ import annotations

from csisidecar.kube import (
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    REFERENCE_GRANTS,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
    VOLUME_ATTRIBUTES_CLASSES,
    VOLUME_SNAPSHOT_CONTENTS,
    VOLUME_SNAPSHOTS,
    Resource,
)
from csisidecar.plugins.rules import OWN_NAMESPACE, PROVISIONER, Role, Rule

_WATCH = ("list", "watch")
_REPLICA_SETS = Resource(group="apps", version="v1", plural="replicasets", kind="ReplicaSet", namespaced=True)

ROLES = (
    Role(
        name="provisioner",
        modes=(PROVISIONER,),
        rules=(
            Rule(
                resource=PERSISTENT_VOLUMES,
                verbs=("get", "list", "watch", "create", "patch", "delete"),
                note="get: only when a volume's name is taken, or its finalizers change under our hands.",
            ),
            Rule(
                resource=PERSISTENT_VOLUME_CLAIMS,
                verbs=("get", *_WATCH),
                note="get: only before a claim is written, or when its PersistentVolume is gone again.",
            ),
            Rule(resource=STORAGE_CLASSES, verbs=_WATCH),
            Rule(resource=EVENTS, verbs=("create", "patch"), note="patch: only for an Event that repeats itself."),
        ),
    ),
    Role(
        name="attached",
        modes=(PROVISIONER,),
        feature="only for a driver that declares PUBLISH_UNPUBLISH_VOLUME",
        note="Attachments hold back the deletion of their volumes.",
        rules=(Rule(resource=VOLUME_ATTACHMENTS, verbs=_WATCH),),
    ),
    Role(
        name="places",
        modes=(PROVISIONER,),
        feature=(
            "only for a driver that declares VOLUME_ACCESSIBILITY_CONSTRAINTS, or with --enable-capacity; not with "
            "--node-deployment"
        ),
        needed=lambda its: its.node is None and (its.topology or its.capacity is not None),
        note="Where the nodes are. With --node-deployment the driver itself says where the one node is.",
        rules=(Rule(resource=NODES, verbs=_WATCH), Rule(resource=CSI_NODES, verbs=_WATCH)),
    ),
    Role(
        name="claims",
        modes=(PROVISIONER,),
        feature=(
            "only for a driver that declares VOLUME_ACCESSIBILITY_CONSTRAINTS or CLONE_VOLUME, or with "
            "--node-deployment"
        ),
        note=(
            "The writes that give a claim back to the scheduler, protect the source of a clone, or take a claim for a "
            "node."
        ),
        rules=(Rule(resource=PERSISTENT_VOLUME_CLAIMS, verbs=("update",)),),
    ),
    Role(
        name="snapshots",
        modes=(PROVISIONER,),
        feature="only for a driver that declares CREATE_DELETE_SNAPSHOT",
        note=(
            "Sources of restores and our finalizer on them. Without it nothing is cleaned up, and one line in the log "
            "says so."
        ),
        rules=(
            Rule(
                resource=VOLUME_SNAPSHOTS,
                verbs=("get", "list", "update"),
                note="list: looks for left-over finalizers, not with --snapshot-orphan-sweep-interval=0.",
            ),
            Rule(resource=VOLUME_SNAPSHOT_CONTENTS, verbs=("get",)),
        ),
    ),
    Role(
        name="attributes",
        modes=(PROVISIONER,),
        feature="only for a driver that declares MODIFY_VOLUME",
        needed=lambda its: its.volume_attributes_class is not False,
        note="The classes of attributes that claims name. Without it those claims wait, and one warning says so.",
        rules=(Rule(resource=VOLUME_ATTRIBUTES_CLASSES, verbs=("get",)),),
    ),
    Role(
        name="grants",
        modes=(PROVISIONER,),
        feature="only with --feature-gates=CrossNamespaceVolumeDataSource=true",
        needed=lambda its: its.cross_namespace_data_source,
        rules=(Rule(resource=REFERENCE_GRANTS, verbs=_WATCH),),
    ),
    Role(
        name="capacity",
        modes=(PROVISIONER,),
        feature="only with --enable-capacity",
        needed=lambda its: its.capacity is not None,
        note="The objects are in the Pod's own namespace.",
        namespaces=(OWN_NAMESPACE,),
        rules=(
            Rule(
                resource=CSI_STORAGE_CAPACITIES,
                verbs=("get", "list", "watch", "create", "update", "delete"),
                note="get and update: when the room changes. delete: when a class or the last node of a place goes.",
            ),
        ),
    ),
    Role(
        name="owner-pod",
        modes=(PROVISIONER,),
        feature="only with --enable-capacity, and not with --capacity-ownerref-level=-1",
        needed=lambda its: its.capacity is not None and its.capacity.ownerref_level >= 0,
        note="The Pod, or what its ownerReferences name, owns the objects of --enable-capacity.",
        namespaces=(OWN_NAMESPACE,),
        rules=(Rule(resource=PODS, verbs=("get",)),),
    ),
    Role(
        name="owner-replicaset",
        modes=(PROVISIONER,),
        feature="only with --enable-capacity and --capacity-ownerref-level=2 or more, in a Pod of a Deployment",
        needed=lambda its: its.capacity is not None and its.capacity.ownerref_level >= 2,
        note=(
            "The Deployment owns the objects; the ReplicaSet between it and the Pod names it. Each level above 2 needs "
            "get of what stands between as well, deployments first."
        ),
        namespaces=(OWN_NAMESPACE,),
        rules=(Rule(resource=_REPLICA_SETS, verbs=("get",)),),
    ),
)
