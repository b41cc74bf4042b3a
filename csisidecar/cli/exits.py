"""Which exit code an end has; the only place that knows the numbers. docs/exit-codes.md tells them to people.

One built-in mode alone ends with the code its Go sidecar would use, so that scripts around a swapped image
see no change; several modes share 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import (
    ConfigError,
    CSIError,
    CsiSidecarError,
    DriverLostError,
    DriverReplacedError,
    DriverUnreachableError,
    LeaseLostError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
"""SIGINT before anything had begun: 128 and the number of the signal, as a shell has it."""
FATAL = 255
"""What Go's `klog.Fatal` ends with; the provisioner uses it for most start-up failures."""


class UsageError(ConfigError):
    """The command line cannot be understood; ends with 2 in every mode."""


class SettingError(ConfigError):
    """A setting is refused, and the Go sidecars have a code for it.

    Attributes:
        attacher: exit code when the attacher runs alone.
        provisioner: exit code when the provisioner runs alone.
    """

    def __init__(self, message: str, *, attacher: int = FAILED, provisioner: int = FAILED) -> None:
        super().__init__(message)
        self.attacher = attacher
        self.provisioner = provisioner


def code_for(error: BaseException, modes: Sequence[str]) -> int:
    """The exit code for a run of `modes` that ended with `error`.

    Source: kubernetes-csi/external-provisioner `cmd/csi-provisioner/csi-provisioner.go` and external-attacher
    `cmd/csi-attacher/main.go`, function main in both.
    """
    if isinstance(error, UsageError):
        return USAGE
    if len(modes) != 1:
        return FAILED
    mode = modes[0]
    if isinstance(error, SettingError):
        return {"attacher": error.attacher, "provisioner": error.provisioner}.get(mode, FAILED)
    if not isinstance(error, CsiSidecarError):
        return USAGE if mode in {"attacher", "provisioner"} else FAILED  # the Go sidecars panic with 2
    if mode != "provisioner":
        return FAILED
    if isinstance(error, (DriverUnreachableError, DriverReplacedError, DriverLostError, LeaseLostError)):
        return FAILED
    call = error if isinstance(error, CSIError) else error.__cause__
    if isinstance(call, CSIError) and call.method == "Probe":
        return FAILED
    return FATAL


def root_cause(error: BaseException) -> BaseException:
    """The one error worth telling: groups are opened, and ours come before strangers."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, CsiSidecarError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def one_line(error: BaseException) -> str:
    """The reason of `error` on one line; errors that are no reasons of ours are named by type."""
    text = " ".join(str(error).split())
    if isinstance(error, CsiSidecarError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
