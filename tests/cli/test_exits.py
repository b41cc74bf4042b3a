"""Errors → exit codes and one-line reasons."""

from __future__ import annotations

import pytest

from csisidecar.cli.exits import SettingError, UsageError, code_for, one_line, root_cause
from csisidecar.errors import (
    ConfigError,
    CSIError,
    DriverIdentityError,
    DriverLostError,
    DriverReplacedError,
    DriverUnreachableError,
    LeaseLostError,
    StartupError,
    StatusCode,
    UnsupportedDriverError,
)


def failed(method: str) -> StartupError:
    error = StartupError(f"{method} failed")
    error.__cause__ = CSIError(method, StatusCode.INTERNAL, "boom")
    return error


@pytest.mark.parity("R-STOP-04")
@pytest.mark.parametrize(
    ("error", "attacher", "provisioner", "several"),
    [
        (UsageError("x"), 2, 2, 2),
        (SettingError("x"), 1, 1, 1),
        (SettingError("x", attacher=2, provisioner=255), 2, 255, 1),
        (ConfigError("--kubeconfig=/x does not exist"), 1, 255, 1),
        (DriverUnreachableError("x"), 1, 1, 1),
        (failed("Probe"), 1, 1, 1),
        (failed("GetPluginCapabilities"), 1, 255, 1),
        (CSIError("Probe", StatusCode.UNIMPLEMENTED, "x"), 1, 1, 1),
        (DriverIdentityError("x"), 1, 255, 1),
        (DriverReplacedError("x"), 1, 1, 1),
        (UnsupportedDriverError("x"), 1, 255, 1),
        (StartupError("cannot listen"), 1, 255, 1),
        (DriverLostError("x"), 1, 1, 1),
        (LeaseLostError("x"), 1, 1, 1),
        (RuntimeError("bug"), 2, 2, 1),
    ],
)
def test_codes(error: Exception, attacher: int, provisioner: int, several: int) -> None:
    assert code_for(error, ("attacher",)) == attacher
    assert code_for(error, ("provisioner",)) == provisioner
    assert code_for(error, ("attacher", "provisioner")) == several


def test_a_plugin_of_a_third_party_ends_with_1() -> None:
    for error in (ConfigError("x"), RuntimeError("x"), SettingError("x", attacher=2, provisioner=255)):
        assert code_for(error, ("mine",)) == 1
    assert code_for(UsageError("x"), ("mine",)) == 2


def test_the_cause_in_a_group_is_ours_first() -> None:
    ours = LeaseLostError("lost")
    group = ExceptionGroup("many", [ValueError("a"), ExceptionGroup("inner", [ours])])
    assert root_cause(group) is ours
    assert root_cause(ours) is ours


def test_reasons_have_one_line() -> None:
    assert one_line(ConfigError("first\n  second")) == "first second"
    assert one_line(ValueError("bad\nvalue")) == "ValueError: bad value"
    assert one_line(ValueError()) == "ValueError"
