"""What a failed attempt at a claim means for the volume that may be in the making; pure.

The decision matters after the claim is gone: only a claim whose CreateVolume may still be running is finished then.
"""

from __future__ import annotations

from enum import Enum

from csisidecar.errors import CSIError, CsiSidecarError, StatusCode


class Outcome(Enum):
    """What is known about the driver after an attempt; the value is the label of the outcome metric."""

    FINAL = "final"
    """Nothing is running in the driver."""
    IN_PROGRESS = "in_progress"
    """A volume may exist or be in the making."""
    NO_CHANGE = "no_change"
    """The driver was not reached; what was true before still is."""
    RESCHEDULE = "reschedule"
    """Nothing is running, and another node may have room."""


class ProvisionError(CsiSidecarError):
    """An attempt at a claim failed; `str()` is the text of its Event. The key's backoff follows.

    Attributes:
        outcome: what is known about the driver now.
        is_infeasible: whether the driver called the request itself wrong, so that asking again soon is no use.
    """

    def __init__(self, text: str, outcome: Outcome, *, is_infeasible: bool = False) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.is_infeasible = is_infeasible


_MAY_BE_RUNNING = frozenset(
    {StatusCode.CANCELED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE, StatusCode.ABORTED}
)


def classify(error: CSIError, *, may_reschedule: bool) -> Outcome:
    """What a failed CreateVolume says about the driver.

    Args:
        error: what the call ended with.
        may_reschedule: whether the driver knows places and the scheduler chose one, so that it could choose again.

    Source: external-provisioner `pkg/controller/controller.go`, checkError; CSI spec, "CreateVolume Errors".
    """
    if error.code in _MAY_BE_RUNNING:
        return Outcome.IN_PROGRESS
    if error.code is StatusCode.RESOURCE_EXHAUSTED and may_reschedule:
        return Outcome.RESCHEDULE
    return Outcome.FINAL


def create_failed(error: CSIError, *, may_reschedule: bool) -> ProvisionError:
    """The attempt's error for a failed CreateVolume."""
    return ProvisionError(
        str(error),
        classify(error, may_reschedule=may_reschedule),
        is_infeasible=error.code is StatusCode.INVALID_ARGUMENT,
    )
