from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

import csisidecar.csi as csi
from csisidecar.csi import (
    ControllerPublishVolumeRequest,
    CreateSnapshotResponse,
    CreateVolumeRequest,
    DeleteVolumeRequest,
    ListVolumesRequest,
    ProbeResponse,
    Snapshot,
    VolumeCapability,
    VolumeCapabilityAccessMode,
    VolumeCapabilityAccessModeMode,
    VolumeCapabilityBlockVolume,
    redact,
)
from csisidecar.csi._generated.secret_fields import SECRET_FIELDS
from csisidecar.csi.redact import cut


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_every_secret_field_is_blanked_whole(name: str) -> None:
    message = getattr(csi, name)(**{field: {"key-name": "hunter2"} for field in SECRET_FIELDS[name]})
    text = redact(message)
    assert "hunter2" not in text
    assert "key-name" not in text
    assert set(json.loads(text).values()) == {"***stripped***"}


def test_every_message_with_secrets_is_in_the_table() -> None:
    with_secrets = {name for name in csi.__all__ if hasattr(getattr(csi, name), "__dataclass_fields__")}
    with_secrets = {name for name in with_secrets if "secrets" in getattr(csi, name).__dataclass_fields__}
    assert with_secrets == set(SECRET_FIELDS)


def test_line_has_sorted_proto_names_set_fields_and_enum_names() -> None:
    mode = VolumeCapabilityAccessMode(mode=VolumeCapabilityAccessModeMode.SINGLE_NODE_WRITER)
    message = ControllerPublishVolumeRequest(
        volume_id="v",
        node_id="n",
        volume_capability=VolumeCapability(block=VolumeCapabilityBlockVolume(), access_mode=mode),
        volume_context={"b": "2", "a": "1"},
    )
    assert redact(message) == (
        '{"node_id":"n","volume_capability":{"access_mode":{"mode":"SINGLE_NODE_WRITER"},"block":{}},'
        '"volume_context":{"a":"1","b":"2"},"volume_id":"v"}'
    )


def test_plain_false_is_unset_but_a_wrapped_false_is_said() -> None:
    assert redact(ControllerPublishVolumeRequest(readonly=False)) == "{}"
    assert redact(ProbeResponse(ready=False)) == '{"ready":false}'


def test_enum_number_of_a_newer_specification_is_shown_as_a_number() -> None:
    mode = VolumeCapabilityAccessMode(mode=VolumeCapabilityAccessModeMode(77))
    assert redact(mode) == '{"mode":77}'


def test_time_is_readable() -> None:
    snapshot = Snapshot(snapshot_id="s", creation_time=datetime(2026, 1, 2, tzinfo=UTC))
    assert '"creation_time":"2026-01-02T00:00:00+00:00"' in redact(CreateSnapshotResponse(snapshot=snapshot))


def test_no_request_is_empty_braces() -> None:
    assert redact(ListVolumesRequest()) == "{}"


def test_text_no_stream_can_encode_is_escaped() -> None:
    redact(DeleteVolumeRequest(volume_id="\udcff")).encode()


@pytest.mark.parametrize(("limit", "kept"), [(-1, "äbcd"), (0, "äbcd"), (5, "äbcd"), (4, "äbc"), (2, "ä"), (1, "")])
def test_cut_counts_bytes_and_never_splits_a_character(limit: int, kept: str) -> None:
    remark = f" [response body too large, log capped to {limit} chars]" if kept != "äbcd" else ""
    assert cut("äbcd", limit) == kept + remark


def test_request_limit_does_not_hide_the_start() -> None:
    assert redact(CreateVolumeRequest(name="x" * 100), limit=9).startswith('{"name":"')
