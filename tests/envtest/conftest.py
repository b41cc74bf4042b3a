"""Skips every test of this folder where there is no real API server to start, saying what is missing."""

from __future__ import annotations

import pytest

from tests.envtest.control_plane import why_not


@pytest.fixture(autouse=True)
def _needs_a_real_server() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)
