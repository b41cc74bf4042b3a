from __future__ import annotations

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.csi import (
    ListVolumesResponse,
    ListVolumesResponseEntry,
    ListVolumesResponseVolumeStatus,
    Topology,
    Volume,
    VolumeCondition,
)
from csisidecar.csi.wire import ensure_whole, read_page

_names = st.text(alphabet=string.ascii_letters + "/-äöü", max_size=200)
_volumes = st.none() | st.builds(
    Volume,
    volume_id=_names,
    capacity_bytes=st.integers(0, 2**62),
    volume_context=st.dictionaries(_names, _names, max_size=3),
    accessible_topology=st.lists(st.builds(Topology, segments=st.dictionaries(_names, _names, max_size=2)), max_size=2),
)
_statuses = st.none() | st.builds(
    ListVolumesResponseVolumeStatus,
    published_node_ids=st.lists(_names, max_size=4),
    volume_condition=st.none() | st.builds(VolumeCondition, abnormal=st.booleans(), message=_names),
)
_entries = st.lists(st.builds(ListVolumesResponseEntry, volume=_volumes, status=_statuses), max_size=20)


@given(entries=_entries, token=_names)
def test_walker_reads_what_the_generated_code_reads(entries: list[ListVolumesResponseEntry], token: str) -> None:
    raw = bytes(ListVolumesResponse(entries=entries, next_token=token))
    whole = ListVolumesResponse.parse(raw)
    page = asyncio.run(read_page(raw))
    assert page.next_token == token
    assert page.nodes_by_handle == {
        entry.volume.volume_id: frozenset(entry.status.published_node_ids)
        for entry in whole.entries
        if entry.volume is not None and entry.status is not None
    }


def _entry(handle: str, *nodes: str) -> ListVolumesResponseEntry:
    status = ListVolumesResponseVolumeStatus(published_node_ids=list(nodes))
    return ListVolumesResponseEntry(volume=Volume(volume_id=handle), status=status)


async def test_last_entry_of_a_repeated_handle_counts() -> None:
    raw = bytes(ListVolumesResponse(entries=[_entry("v", "a"), _entry("w"), _entry("v", "b", "c")]))
    assert (await read_page(raw)).nodes_by_handle == {"v": frozenset({"b", "c"}), "w": frozenset()}


async def test_entries_without_volume_or_status_are_left_out() -> None:
    entries = [ListVolumesResponseEntry(volume=Volume(volume_id="v")), ListVolumesResponseEntry(), _entry("w", "n")]
    assert (await read_page(bytes(ListVolumesResponse(entries=entries)))).nodes_by_handle == {"w": frozenset({"n"})}


async def test_long_page_lets_the_loop_run_in_between() -> None:
    raw = bytes(ListVolumesResponse(entries=[_entry(f"volume-{i}", "node") for i in range(2000)]))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.get_running_loop().create_task(count())
    await read_page(raw)
    counter.cancel()
    assert turns >= 7


async def test_fields_of_a_newer_specification_are_stepped_over() -> None:
    varint, fixed64, fixed32, text = b"\x98\x01\x05", b"\x99\x01" + b"x" * 8, b"\x9d\x01" + b"x" * 4, b"\x9a\x01\x01x"
    known = bytes(ListVolumesResponse(entries=[_entry("v", "n")], next_token="t"))
    page = await read_page(varint + fixed64 + known + fixed32 + text)
    assert (page.nodes_by_handle, page.next_token) == ({"v": frozenset({"n"})}, "t")


@pytest.mark.parametrize("raw", [b"\x0a", b"\x0a\x05ab", b"\x08", b"\x0b", b"\x09abc", b"\xff" * 11, b"\x0a\xff"])
async def test_cut_and_garbled_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"EOF|wire type|overflow"):
        ensure_whole(raw)
    with pytest.raises(ValueError, match=r"EOF|wire type|overflow"):
        await read_page(raw)


async def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        await read_page(b"\x12\x02\xff\xfe")
