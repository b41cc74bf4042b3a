"""The provisioner: PersistentVolumeClaims of one driver → CreateVolume → PersistentVolumes, and back.

Reconcilers: `claims` (a claim from start to finish), `volumes` (DeleteVolume), `unsaved` (volumes whose PV could not
be written), `waits` (claims that wait for an object without a watch), `unprotect` (finalizers of sources),
`node_local` (a node taking a claim for itself; `twins` notices a second provisioner of one node) and `capacity`
(CSIStorageCapacity objects).

Between them and the API server: `planning` gathers what a claim needs, with `sources`, `attributes`, `credentials` and
`protection`; `saving` writes the PV, `cleanup` undoes a volume nobody wants, `reschedule` gives a claim back to the
scheduler; `memory` keeps what an unfinished volume was asked for.

Pure: `eligibility`, `topology`, `data_source`, `snapshot_source`, `clone_source`, `create_request`, `answer`,
`persistent_volume`, `deletion`, `outcome`, `history` and `names`. `rules` says what all of it may do at the API server,
`plugin` puts it together. The rest of the package imports from this door.
"""

from __future__ import annotations

from csisidecar.plugins.provisioner.plugin import Provisioner, factory

__all__ = ["Provisioner", "factory"]
