"""Claim, class, driver and settings → CreateVolumeRequest; pure.

The order in which things are checked is the Go provisioner's: it decides which of several errors is seen.
`draft_volume` comes before any secret is read, `complete_plan` after the provisioner's own was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csisidecar.csi import CapacityRange, CreateVolumeRequest, VolumeCapabilityAccessModeMode
from csisidecar.errors import UnusableObjectError
from csisidecar.kube import quantity
from csisidecar.mapping import secrets
from csisidecar.mapping.capability import create_capabilities
from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.config import ProvisionerSettings
    from csisidecar.csi import DriverInfo, VolumeCapability, VolumeContentSource
    from csisidecar.kube import Claim, SecretRef, StorageClass
    from csisidecar.plugins.provisioner.data_source import DataSource
    from csisidecar.plugins.provisioner.topology import Requirements

FS_TYPE_KEY = f"{secrets.PREFIX}fstype"
CLAIM_NAME_KEY = f"{secrets.PREFIX}pvc/name"
CLAIM_NAMESPACE_KEY = f"{secrets.PREFIX}pvc/namespace"
VOLUME_NAME_KEY = f"{secrets.PREFIX}pv/name"

RESERVED_KEYS = frozenset(
    {FS_TYPE_KEY} | {key for pair in (secrets.DEFAULT, *secrets.PAIRS) for key in (pair.name_key, pair.namespace_key)}
)
"""Class parameters that are for us and never reach the driver."""

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class VolumeDraft:
    """What is known of a volume before any secret is looked at."""

    claim: Claim
    storage_class: StorageClass
    """As the driver knows it: one of an in-tree plugin is translated."""
    provisioner: str
    """Whom the class itself names: the driver, or the in-tree plugin before it."""
    is_migrated: bool
    """Whether the class is an in-tree plugin's, so that the PV becomes one of that plugin too."""
    name: str
    """In CreateVolume, as the PV, and as ``${pv.name}``."""
    size_bytes: int
    """What the claim asks for, rounded up; 0 when it asks for nothing."""
    fs_type: str
    capabilities: tuple[VolumeCapability, ...]
    source: DataSource | None = None
    """What it is to be filled from."""
    attributes_class: str = ""
    """The claim's VolumeAttributesClass; empty for none, or when such classes do not count."""

    @property
    def tokens(self) -> secrets.SecretTokens:
        """What secret templates may name."""
        claim = self.claim
        return secrets.SecretTokens(
            pv_name=self.name,
            claim_name=claim.name,
            claim_namespace=claim.namespace,
            annotations=claim.annotations,
        )

    def find_secret(self, pair: secrets.SecretPair) -> SecretRef | None:
        """The Secret for one kind of call; raises UnusableObjectError."""
        return secrets.find_secret(pair, self.storage_class.parameters or {}, self.tokens)


@dataclass(frozen=True, kw_only=True)
class VolumePlan:
    """A volume as it is going to be asked for, all but the content of the provisioner's Secret.

    It is kept for as long as CreateVolume may be running, so that every call until the final answer says the same.
    """

    draft: VolumeDraft
    parameters: Mapping[str, str]
    """What the driver gets of the class's parameters, and what we add."""
    secret_refs: Mapping[secrets.SecretPair, SecretRef]
    """The Secret of each kind of call that has one."""
    content_source: VolumeContentSource | None = None
    """The driver's id of what it is to be filled from."""
    mutable_parameters: Mapping[str, str] = field(default_factory=dict)
    """What the VolumeAttributesClass says."""
    requirements: Requirements | None = None
    """Where the volume may be; None: nothing is said about it."""

    @property
    def provisioner_secret(self) -> SecretRef | None:
        """The Secret that CreateVolume and DeleteVolume get."""
        return self.secret_refs.get(secrets.PROVISIONER)

    @property
    def is_only_read(self) -> bool:
        """Whether the claim's one access mode is to be read on many nodes."""
        modes = [item.access_mode.mode for item in self.draft.capabilities if item.access_mode is not None]
        return modes == [VolumeCapabilityAccessModeMode.MULTI_NODE_READER_ONLY]


def check_driver(driver: DriverInfo, source: DataSource | None = None, attributes_class: str = "") -> None:
    """Raises UnusableObjectError when the driver cannot create and delete volumes at all, or not such ones.

    Source: external-provisioner `pkg/controller/controller.go`, checkDriverCapabilities.
    """
    needed = [("dynamic provisioning", "plugin", "CONTROLLER_SERVICE")]
    needed.append(("dynamic provisioning", "controller", "CREATE_DELETE_VOLUME"))
    if source is not None and source.is_snapshot:
        needed.append(("snapshot restore", "controller", "CREATE_DELETE_SNAPSHOT"))
    if source is not None and source.is_claim:
        needed.append(("clone operations", "controller", "CLONE_VOLUME"))
    if attributes_class:
        needed.append(("VolumeAttributesClass", "controller", "MODIFY_VOLUME"))
    for what, service, capability in needed:
        has = driver.has_plugin if service == "plugin" else driver.has_controller
        if not has(capability):
            raise UnusableObjectError(
                f"CSI driver does not support {what}: {service} {capability} capability is not reported"
            )


def draft_volume(
    claim: Claim,
    storage_class: StorageClass,
    driver: DriverInfo,
    settings: ProvisionerSettings,
    *,
    in_tree_name: str = "",
    source: DataSource | None = None,
    attributes_class: str = "",
) -> VolumeDraft:
    """The volume that the claim asks for.

    Args:
        claim: who wants it.
        storage_class: the claim's, as the driver knows it.
        driver: who is to make it.
        settings: how volumes are named, and the like.
        in_tree_name: the plugin whose class it is, when `storage_class` is a translation.
        source: what it is to be filled from.
        attributes_class: its VolumeAttributesClass.

    Raises:
        UnusableObjectError: the driver, the claim or the class makes it impossible.

    Source: external-provisioner `pkg/controller/controller.go`, prepareProvision.
    """
    check_driver(driver, source, attributes_class)
    if claim.spec.selector is not None:
        raise UnusableObjectError("claim Selector is not supported")
    name = names.volume_name(claim.uid, settings)
    fs_type = find_fs_type(storage_class.parameters or {}, settings.default_fstype)
    return VolumeDraft(
        claim=claim,
        storage_class=storage_class,
        provisioner=in_tree_name or storage_class.provisioner,
        is_migrated=bool(in_tree_name),
        name=name,
        size_bytes=requested_bytes(claim),
        fs_type=fs_type,
        capabilities=tuple(
            create_capabilities(
                claim.spec.access_modes,
                volume_mode=claim.spec.volume_mode,
                fs_type=fs_type,
                mount_flags=storage_class.mount_options,
                single_node_multi_writer=driver.has_controller("SINGLE_NODE_MULTI_WRITER"),
            )
        ),
        source=source,
        attributes_class=attributes_class,
    )


def requested_bytes(claim: Claim) -> int:
    """Size that the claim asks for in whole bytes, rounded up; 0 when it names none.

    Raises:
        UnusableObjectError: the API server let something through that is no quantity.
    """
    requests = (claim.spec.resources.requests if claim.spec.resources else None) or {}
    wanted = requests.get("storage")
    if wanted is None:
        return 0
    try:
        return min(quantity.parse(wanted), _INT64_MAX)
    except ValueError as error:
        raise UnusableObjectError(f"requested storage {wanted!r} of the claim is no quantity: {error}") from error


def find_fs_type(parameters: Mapping[str, str], default: str) -> str:
    """File system that the class names, else `default`.

    Raises:
        UnusableObjectError: the class names more than one, even if they are equal.
    """
    found = [value for key, value in parameters.items() if key == FS_TYPE_KEY or key.lower() == "fstype"]
    if len(found) > 1:
        raise UnusableObjectError(f'fstype specified in parameters with both "fstype" and "{FS_TYPE_KEY}" keys')
    return (found[0] if found else "") or default


def find_secret_refs(draft: VolumeDraft) -> dict[secrets.SecretPair, SecretRef]:
    """The Secret of each kind of call that has one.

    Raises:
        UnusableObjectError: a secret pair of the class is broken.
    """
    found = ((pair, draft.find_secret(pair)) for pair in secrets.PAIRS)
    return {pair: ref for pair, ref in found if ref is not None}


def driver_parameters(draft: VolumeDraft, *, extra_create_metadata: bool) -> dict[str, str]:
    """What the driver gets of the class's parameters; with `extra_create_metadata` also whom the volume is for.

    Deprecated keys without the prefix are passed on, as ever.

    Raises:
        UnusableObjectError: a parameter has the reserved prefix and no meaning.

    Source: external-provisioner `pkg/controller/controller.go`, removePrefixedParameters.
    """
    passed = {}
    for key, value in (draft.storage_class.parameters or {}).items():
        if not key.startswith(secrets.PREFIX):
            passed[key] = value
        elif key not in RESERVED_KEYS:
            raise UnusableObjectError(
                "failed to strip CSI Parameters of prefixed keys:"
                f' found unknown parameter key "{key}" with reserved namespace {secrets.PREFIX}'
            )
    if extra_create_metadata:
        passed[CLAIM_NAME_KEY] = draft.claim.name
        passed[CLAIM_NAMESPACE_KEY] = draft.claim.namespace
        passed[VOLUME_NAME_KEY] = draft.name
    return passed


def build_request(plan: VolumePlan, credentials: Mapping[str, str]) -> CreateVolumeRequest:
    """The request for `plan`; `credentials` is the content of the provisioner's Secret."""
    draft = plan.draft
    return CreateVolumeRequest(
        name=draft.name,
        capacity_range=CapacityRange(required_bytes=draft.size_bytes),
        volume_capabilities=list(draft.capabilities),
        parameters=dict(plan.parameters),
        secrets=dict(credentials),
        volume_content_source=plan.content_source,
        mutable_parameters=dict(plan.mutable_parameters),
        accessibility_requirements=plan.requirements.to_message() if plan.requirements is not None else None,
    )
