"""Planner: everything between "this claim gets a volume" and CreateVolume, in the Go provisioner's order.

The order decides which of several errors is seen, and what a claim that fails may have left behind: finalizers on its
source. What comes out is a VolumePlan, which every call for the claim repeats until the driver's final answer.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from csisidecar.errors import KubeError, ThrottledError, UnusableObjectError
from csisidecar.kube import REFERENCE_GRANTS, SECRETS
from csisidecar.mapping import migration, secrets
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.create_request import (
    VolumePlan,
    draft_volume,
    driver_parameters,
    find_secret_refs,
)
from csisidecar.plugins.provisioner.credentials import fetch_credentials
from csisidecar.plugins.provisioner.data_source import check_data_source, find_data_source, is_for_populator
from csisidecar.plugins.provisioner.history import MESSAGE_BYTES
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError
from csisidecar.plugins.provisioner.topology import TopologyError, find_requirements
from csisidecar.plugins.provisioner.waits import Awaited
from csisidecar.runtime import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim, Grant, SecretRef, StorageClass
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.attributes import AttributesReader
    from csisidecar.plugins.provisioner.data_source import DataSource
    from csisidecar.plugins.provisioner.protection import SourceProtection
    from csisidecar.plugins.provisioner.sources import ResolvedSource, SourceReader
    from csisidecar.plugins.provisioner.topology import Cluster, Requirements
    from csisidecar.plugins.provisioner.waits import Waits
    from csisidecar.runtime import Store

BY_NAMESPACE = "by namespace"
"""Index of the store of ReferenceGrants."""

HISTORY_BYTES = 160
"""What is left free in an Event for how often and since when an attempt failed."""


class Planner:
    """Makes plans and reads the provisioner's Secret for them.

    Args:
        ctx: the driver, and the plugin's client.
        settings: how volumes are named, and the like.
        waits: where what was looked at is noted.
        sources: reads snapshots and claims to fill volumes from.
        protection: puts finalizers on them.
        attributes: reads VolumeAttributesClasses.
        grants: ReferenceGrants by namespace; None: sources in other namespaces are off.
        cluster: the nodes; None: topology does not count.

    Source: external-provisioner `pkg/controller/controller.go`, prepareProvision.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: ProvisionerSettings,
        waits: Waits,
        *,
        sources: SourceReader,
        protection: SourceProtection,
        attributes: AttributesReader,
        grants: Store[Grant] | None,
        cluster: Cluster | None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._waits = waits
        self._sources = sources
        self._protection = protection
        self._attributes = attributes
        self._grants = grants
        self._cluster = cluster

    async def make(self, claim: Claim, storage_class: StorageClass) -> tuple[VolumePlan, dict[str, str]] | None:
        """The plan for the claim's volume and the content of its Secret; None: a populator fills it.

        Raises:
            ProvisionError: the claim gets no volume as things are.
            ThrottledError: the API server asks to come back.
        """
        self._waits.forget(claim.uid)
        with failing_as(Outcome.FINAL):
            source = self._find_source(claim)
            in_tree_name = ""
            if storage_class.provisioner != self._ctx.driver.name:
                in_tree_name = storage_class.provisioner
                storage_class = translate_class(storage_class)
            if source is not None:
                check_data_source(source, claim.name)
                if is_for_populator(source):
                    return None
            attributes_class = await self._attributes.find_name(claim)
            draft = draft_volume(
                claim,
                storage_class,
                self._ctx.driver,
                self._settings,
                in_tree_name=in_tree_name,
                source=source,
                attributes_class=attributes_class,
            )
        with failing_as(Outcome.NO_CHANGE):
            resolved = await self._sources.resolve(claim, storage_class, source) if source is not None else None
            if resolved is not None:
                await self._protect(resolved)
        requirements = self._find_requirements(claim, storage_class)
        with failing_as(Outcome.NO_CHANGE):
            provisioner_secret = draft.find_secret(secrets.PROVISIONER)
            credentials = await self.fetch_credentials(claim, provisioner_secret)
            secret_refs = find_secret_refs(draft)
        with failing_as(Outcome.FINAL):
            parameters = driver_parameters(draft, extra_create_metadata=self._settings.extra_create_metadata)
        mutable = await self._attributes.fetch_parameters(claim, attributes_class) if attributes_class else {}
        plan = VolumePlan(
            draft=draft,
            parameters=parameters,
            secret_refs=secret_refs,
            content_source=resolved.content if resolved is not None else None,
            mutable_parameters=mutable,
            requirements=requirements,
        )
        return plan, credentials

    async def fetch_credentials(self, claim: Claim, ref: SecretRef | None) -> dict[str, str]:
        """The content of the provisioner's Secret, as it is now; raises ProvisionError, ThrottledError."""

        def looked_at(version: str) -> None:
            if ref is not None:
                self._waits.looked_at(claim.uid, Awaited(SECRETS, ref.namespace, ref.name), version)

        with failing_as(Outcome.NO_CHANGE):
            return await fetch_credentials(self._ctx.kube, ref, looked_at=looked_at)

    def _find_source(self, claim: Claim) -> DataSource | None:
        if self._grants is None:
            return find_data_source(claim, None)
        grants = self._grants

        def grants_in(namespace: str) -> Iterable[Grant]:
            self._waits.looked_at(claim.uid, Awaited(REFERENCE_GRANTS, namespace, ""), "")
            return grants.by_index(BY_NAMESPACE, namespace)

        return find_data_source(claim, grants_in)

    async def _protect(self, resolved: ResolvedSource) -> None:
        if resolved.claim is not None:
            await self._protection.protect_claim(resolved.claim)
        if resolved.snapshot is not None:
            await self._protection.protect_snapshot(resolved.snapshot)

    def _find_requirements(self, claim: Claim, storage_class: StorageClass) -> Requirements | None:
        if self._cluster is None:
            return None
        try:
            return find_requirements(
                self._cluster,
                claim_name=claim.name,
                class_name=storage_class.name,
                allowed_topologies=storage_class.allowed_topologies,
                selected_node=names.find_selected_node(claim),
                strict=self._settings.strict_topology,
                immediate=self._settings.immediate_topology,
            )
        except TopologyError as error:
            if error.is_node_gone:
                raise ProvisionError(str(error), Outcome.RESCHEDULE) from error
            raise ProvisionError(_text_of(error), Outcome.NO_CHANGE) from error


def _text_of(error: TopologyError) -> str:
    """The Go provisioner's text, and the advice behind it; of a text that is too long for both, the end goes."""
    text, advice = f"error generating accessibility requirements: {error}", error.advice
    if not advice:
        return text
    return f"{clip(text, MESSAGE_BYTES - HISTORY_BYTES - len(advice.encode()))}; {advice}"


def translate_class(storage_class: StorageClass) -> StorageClass:
    """The in-tree plugin's class as the driver knows it; raises UnusableObjectError."""
    try:
        return migration.class_view_to_csi(storage_class.provisioner, storage_class)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"failed to translate storage class: {error}") from error


@contextmanager
def failing_as(outcome: Outcome) -> Iterator[None]:
    """What makes an object unusable, or an API error, as a failed attempt that says `outcome` about the driver."""
    try:
        yield
    except ThrottledError:
        raise
    except (UnusableObjectError, KubeError) as error:
        raise ProvisionError(str(error), outcome) from error
