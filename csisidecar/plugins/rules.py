"""What a role of the API server grants, as data: the plugins say in their `rules.py` what they ask for.

Here are the two dataclasses and the roles that both plugins need. `csisidecar.cli.rbac` makes manifests from all of
them; tests run each mode and feature with exactly these roles and find none of it spare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.kube import LEASES, SECRETS, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.config import ProvisionerSettings

ATTACHER = "attacher"
PROVISIONER = "provisioner"
BOTH = (ATTACHER, PROVISIONER)
OWN_NAMESPACE = ""
"""In `Role.namespaces`: the one the Pod is in."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The verbs that are used on one resource.

    Attributes:
        resource: whose objects.
        subresource: ``status``, or empty for the object itself.
        note: when it is not used, or what happens without it.
    """

    resource: Resource
    verbs: tuple[str, ...]
    subresource: str = ""
    note: str = ""

    @property
    def plural(self) -> str:
        """As a role has it: ``volumeattachments/status``."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural


@dataclass(frozen=True, kw_only=True)
class Role:
    """The rules of one mode, or of one feature of it.

    Attributes:
        name: of the role and of its binding, behind the name of the account.
        modes: who needs it.
        feature: when it is needed, for people; empty: always.
        needed: the same as far as the provisioner's settings say it; what the driver declares they do not know.
        note: what it is for, and what happens without it.
        namespaces: where it is; none: in the whole cluster.
    """

    name: str
    modes: tuple[str, ...]
    rules: tuple[Rule, ...]
    feature: str = ""
    needed: Callable[[ProvisionerSettings], bool] | None = None
    note: str = ""
    namespaces: tuple[str, ...] = ()


SECRETS_ROLE = Role(
    name="secrets",
    modes=BOTH,
    feature="only when StorageClasses or PersistentVolumes of the driver name Secrets",
    note="Better bound in the namespaces of those Secrets alone.",
    rules=(Rule(resource=SECRETS, verbs=("get",)),),
)
LEASES_ROLE = Role(
    name="leases",
    modes=BOTH,
    feature="only with leader election",
    note=(
        "In the namespace of --leader-election-namespace. With its default, kube-system, the Lease of the same name in "
        "the Pod's own namespace is held too, because that is where the Go sidecars keep theirs; then there are two "
        "Roles."
    ),
    namespaces=("kube-system", OWN_NAMESPACE),
    rules=(Rule(resource=LEASES, verbs=("get", "create", "update")),),
)
