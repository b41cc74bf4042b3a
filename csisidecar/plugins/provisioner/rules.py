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
)
from csisidecar.plugins.rules import OWN_NAMESPACE, PROVISIONER, Role, Rule

_WATCH = ("list", "watch")

ROLES = (
    Role(
        name="provisioner",
        modes=(PROVISIONER,),
        rules=(
            Rule(resource=PERSISTENT_VOLUMES, verbs=("get", "list", "watch", "create", "patch", "delete")),
            Rule(
                resource=PERSISTENT_VOLUME_CLAIMS,
                verbs=("get", "list", "watch", "update"),
                note="update: only with a driver that declares topology, to give a claim back to the scheduler.",
            ),
            Rule(resource=STORAGE_CLASSES, verbs=_WATCH),
            Rule(resource=NODES, verbs=_WATCH, note="Only with a driver that declares topology."),
            Rule(resource=CSI_NODES, verbs=_WATCH),
            Rule(
                resource=VOLUME_ATTACHMENTS,
                verbs=_WATCH,
                note=(
                    "Not used with a driver that attaches nothing: attachments hold back the deletion of their volumes."
                ),
            ),
            Rule(resource=EVENTS, verbs=("create", "patch")),
        ),
    ),
    Role(
        name="places",
        modes=(PROVISIONER,),
        feature=(
            "only for a driver that declares VOLUME_ACCESSIBILITY_CONSTRAINTS or CLONE_VOLUME, or with "
            "--enable-capacity"
        ),
        note=("Where the nodes are, and the write that gives a claim back to the scheduler or lets a cloned claim go."),
        rules=(
            Rule(resource=NODES, verbs=_WATCH),
            Rule(resource=CSI_NODES, verbs=_WATCH),
            Rule(resource=PERSISTENT_VOLUME_CLAIMS, verbs=("get", "update")),
        ),
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
            Rule(resource=VOLUME_SNAPSHOTS, verbs=("get", "list", "update")),
            Rule(resource=VOLUME_SNAPSHOT_CONTENTS, verbs=("get",)),
        ),
    ),
    Role(
        name="attributes",
        modes=(PROVISIONER,),
        feature="only for a driver that declares MODIFY_VOLUME",
        note="The classes of attributes that claims name. Without it those claims wait, and one warning says so.",
        rules=(Rule(resource=VOLUME_ATTRIBUTES_CLASSES, verbs=("get",)),),
    ),
    Role(
        name="grants",
        modes=(PROVISIONER,),
        feature="only with --feature-gates=CrossNamespaceVolumeDataSource=true",
        rules=(Rule(resource=REFERENCE_GRANTS, verbs=_WATCH),),
    ),
)
CAPACITY_ROLE = Role(
    name="capacity",
    modes=(PROVISIONER,),
    feature="only with --enable-capacity",
    note=(
        "With --capacity-ownerref-level=2, the Deployment of a Pod, it also needs "
        "{apiGroups: [apps], resources: [replicasets], verbs: [get]}; with -1 no pods."
    ),
    namespaces=(OWN_NAMESPACE,),
    rules=(
        Rule(resource=CSI_STORAGE_CAPACITIES, verbs=("get", "list", "watch", "create", "update", "delete")),
        Rule(resource=PODS, verbs=("get",)),
    ),
)
