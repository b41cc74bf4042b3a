"""The public face: what it promises is there, sorted, and costs nothing to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import csisidecar


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert len(set(csisidecar.__all__)) == len(csisidecar.__all__)
    for name in csisidecar.__all__:
        assert getattr(csisidecar, name) is not None
    assert set(csisidecar.__all__) == set(csisidecar._ROOM_OF)


def test_importing_the_face_loads_no_room() -> None:
    code = "import sys, csisidecar; print([m for m in sys.modules if m.startswith(('csisidecar.', 'aiohttp', 'grpc'))])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert out.stdout.strip() == "[]"


def test_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        csisidecar.Nonsense  # noqa: B018 - the access is the test


def test_a_plain_program_sees_the_fields_of_log_lines_with_the_public_formatter() -> None:
    code = (
        "import logging, csisidecar\n"
        "handler = logging.StreamHandler()\n"
        "handler.setFormatter(csisidecar.LogFormatter())\n"
        "logging.basicConfig(level=logging.INFO, handlers=[handler])\n"
        "fields = {'key': 'default/c1', 'error': 'no room', 'token': 'hidden'}\n"
        "logging.getLogger('csisidecar.runtime').warning('attempt failed', extra=fields)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert '"attempt failed" key="default/c1" error="no room" token="***stripped***"' in done.stderr
