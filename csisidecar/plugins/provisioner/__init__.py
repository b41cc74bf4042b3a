"""The provisioner: PersistentVolumeClaims of one driver → CreateVolume → PersistentVolumes, and back.

`claims`, `volumes`, `unsaved`, `waits` and `unprotect` reconcile; `planning` gathers what a claim needs, with
`sources`, `attributes`, `credentials` and `protection` at the API server; `eligibility`, `data_source`,
`snapshot_source`, `clone_source`, `create_request`, `answer`, `persistent_volume`, `deletion`, `outcome` and
`history` are pure; `plugin` puts them together. The rest of the package imports from this door.
"""

from __future__ import annotations

from csisidecar.plugins.provisioner.plugin import Provisioner, factory

__all__ = ["Provisioner", "factory"]
