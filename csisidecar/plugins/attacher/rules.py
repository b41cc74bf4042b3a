"""What the attacher asks the API server for; a change of a verb in this folder is a change here."""

from __future__ import annotations

from csisidecar.kube import CSI_NODES, EVENTS, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from csisidecar.plugins.rules import ATTACHER, Role, Rule

_AGAIN = "get: only when its finalizers changed since the watch told of it, or the watch does not show our own write."

ROLES = (
    Role(
        name="attacher",
        modes=(ATTACHER,),
        rules=(
            Rule(resource=PERSISTENT_VOLUMES, verbs=("get", "list", "watch", "patch"), note=_AGAIN),
            Rule(resource=VOLUME_ATTACHMENTS, verbs=("get", "list", "watch", "patch"), note=_AGAIN),
            Rule(resource=VOLUME_ATTACHMENTS, subresource="status", verbs=("patch",)),
            Rule(resource=CSI_NODES, verbs=("list", "watch"), note="Not used with a driver that attaches nothing."),
            Rule(
                resource=EVENTS,
                verbs=("create", "patch"),
                note="Optional: without it there are no Events, and one warning says so.",
            ),
        ),
    ),
)
