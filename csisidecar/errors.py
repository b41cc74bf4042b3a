"""The whole error tree; every room raises from here and nothing else.

CsiSidecarError
├── ConfigError               a setting is wrong; the message names the flag
├── StartupError              the process cannot start or go on; carries what upstream calls it
│   ├── DriverUnreachableError  no connection to the driver in time
│   ├── DriverIdentityError     no name, another name than expected, or it changed
│   │   └── DriverReplacedError     another name after a reconnection
│   └── UnsupportedDriverError  the driver lacks what a plugin needs
├── CSIError                  one CSI call failed: method and gRPC status
├── KubeError                 one API request failed: what, where, status
│   ├── NotFoundError           404
│   ├── ConflictError           409, the object changed meanwhile
│   ├── AlreadyExistsError      409, the name is taken
│   ├── ForbiddenError          403; carries the missing RBAC rule
│   ├── InvalidError            422
│   ├── GoneError               410, the resourceVersion or continue token is too old
│   ├── ThrottledError          429 or 503 with Retry-After
│   └── UnreachableError        no answer: refused, reset, timed out
├── DriverLostError           the connection to the driver ended
├── LeaseLostError            the lease could not be renewed in time
├── UnusableObjectError       an object says something that cannot be carried out
├── TerminalError             no use trying before something changes
└── RetryAfter                try again at a known time; counts as no failure
"""

from __future__ import annotations

from enum import IntEnum


class StatusCode(IntEnum):
    """gRPC status codes; `label` is the spelling Go prints in messages and metrics."""

    OK = 0
    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def label(self) -> str:
        """The code as Go spells it, for example ``DeadlineExceeded``."""
        return "OK" if self is StatusCode.OK else "".join(w.capitalize() for w in self.name.split("_"))


class CsiSidecarError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(CsiSidecarError):
    """A setting cannot work. The message names the flag and what to change; nothing was started."""


class StartupError(CsiSidecarError):
    """The process cannot start or go on; trying again in the same process is no use."""


class DriverUnreachableError(StartupError):
    """No connection to the driver's socket within the allowed time."""


class DriverIdentityError(StartupError):
    """The driver gave no name, another one than asked for, or another one than before."""


class DriverReplacedError(DriverIdentityError):
    """Another driver answers at the socket after a reconnection; a new process has to meet it."""


class UnsupportedDriverError(StartupError):
    """The driver lacks a capability without which a plugin cannot do anything."""


class CSIError(CsiSidecarError):
    """One CSI call failed; `str()` is the text Go shows for the same failure.

    Attributes:
        method: RPC name without the package, for example ``CreateVolume``.
        code: gRPC status, also for local causes (deadline: DEADLINE_EXCEEDED, lost socket: UNAVAILABLE).
        message: the driver's own text, or ours for a local cause.
    """

    def __init__(self, method: str, code: StatusCode, message: str) -> None:
        super().__init__(method, code, message)
        self.method = method
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"rpc error: code = {self.code.label} desc = {self.message}"


class KubeError(CsiSidecarError):
    """One API request failed; `str()` is the API server's own Status message.

    Attributes:
        verb: RBAC verb of the request (get, list, watch, create, update, patch, delete).
        resource: plural with group, for example ``volumeattachments.storage.k8s.io/status``.
        name: object name, with its namespace in front and a slash if it has one; empty for lists.
        status: HTTP status, 0 when there was no answer.
        reason: Status.reason, for example ``Conflict``; empty when there was no answer.
        retry_after_s: what a Retry-After header asked for, seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        verb: str = "",
        resource: str = "",
        name: str = "",
        status: int = 0,
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.verb = verb
        self.resource = resource
        self.name = name
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class NotFoundError(KubeError):
    """404: the object, or the kind, does not exist."""


class ConflictError(KubeError):
    """409 Conflict: the object changed since it was read, or a precondition failed; read again."""


class AlreadyExistsError(KubeError):
    """409 AlreadyExists: the name is taken; compare before adopting."""


class ForbiddenError(KubeError):
    """403: a role lacks a verb."""

    @property
    def missing_rule(self) -> str:
        """The RBAC rule that would allow the request, as one line of YAML."""
        return self.rule_for(self.verb)

    def rule_for(self, *verbs: str) -> str:
        """The RBAC rule for these verbs on the resource of the request, as one line of YAML."""
        quoted = ", ".join(f'"{verb}"' for verb in verbs)
        resource, _, subresource = self.resource.partition("/")
        plural, _, group = resource.partition(".")
        full = f"{plural}/{subresource}" if subresource else plural
        return f'{{apiGroups: ["{group}"], resources: ["{full}"], verbs: [{quoted}]}}'


class InvalidError(KubeError):
    """422: the API server refuses the content; the message says which field."""


class GoneError(KubeError):
    """410: the resourceVersion or the continue token is too old; list again."""


class ThrottledError(KubeError):
    """429, or 503 with Retry-After: the server asks to come back later; no failure of the request itself."""


class UnreachableError(KubeError):
    """No answer from the API server; the request may or may not have been carried out."""


class DriverLostError(CsiSidecarError):
    """The connection to the driver ended after it had worked."""


class LeaseLostError(CsiSidecarError):
    """The lease was not renewed within the renew deadline, or another holder has it."""


class UnusableObjectError(CsiSidecarError):
    """What an object says, or another object lacks, cannot be carried out; `str()` is what its owner should read.

    No RPC was sent for it. Whether a retry makes sense is the caller's to say: a plugin that wants none raises
    TerminalError from it.
    """


class TerminalError(CsiSidecarError):
    """An attempt failed for good; only a change of the object or of what it names starts another."""


class RetryAfter(CsiSidecarError):  # noqa: N818 - an instruction to the controller, not a fault
    """Look at the key again at a known time; counts as no failure and changes no backoff."""

    def __init__(self, seconds: float, why: str = "") -> None:
        super().__init__(why or f"look again in {seconds:g} s")
        self.seconds = seconds
