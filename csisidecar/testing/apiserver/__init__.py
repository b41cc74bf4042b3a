"""The embedded Kubernetes API server: what belongs here is what a client can see of a real one.

`FakeAPIServer` is the door for tests and the demo, `serve` the one for the command line. No other room is used but
clock and errors; nothing here knows CSI.
"""

from __future__ import annotations

from csisidecar.testing.apiserver.audit import AuditLog, AuditRecord
from csisidecar.testing.apiserver.fake import FakeAPIServer, Objects, ServerOptions, serve
from csisidecar.testing.apiserver.kinds import Column, KindSpec
from csisidecar.testing.apiserver.status import Refusal
from csisidecar.testing.apiserver.troubles import Trouble, Troubles

__all__ = [
    "AuditLog",
    "AuditRecord",
    "Column",
    "FakeAPIServer",
    "KindSpec",
    "Objects",
    "Refusal",
    "ServerOptions",
    "Trouble",
    "Troubles",
    "serve",
]
