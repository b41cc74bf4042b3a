"""Patches do what they say, and fail when the object is not the one they were computed from."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.kube import add_finalizer, escape, merge, remove_finalizer

MINE = "external-attacher/csi-test-io"
names = st.lists(st.sampled_from((MINE, "kubernetes.io/pv-protection", "a/b", "~c")), max_size=4)


def apply(finalizers: list[str] | None, patch: list[dict[str, Any]]) -> list[str]:
    """The list after `patch`, as an API server reads it: a test for null passes where nothing is."""
    metadata: dict[str, Any] = {} if finalizers is None else {"finalizers": finalizers}
    if patch and patch[0]["op"] == "test" and patch[0]["value"] is None and not metadata.get("finalizers"):
        patch = patch[1:]
    result: dict[str, Any] = jsonpatch.apply_patch({"metadata": metadata}, patch)
    return list(result["metadata"].get("finalizers", []))


@pytest.mark.parametrize("old", [None, [], ["a/b"], ["a/b", "c"]])
def test_finalizer_is_added_at_the_end(old: list[str] | None) -> None:
    assert apply(old, add_finalizer(old, MINE)) == [*(old or []), MINE]


def test_finalizer_that_is_there_needs_no_patch() -> None:
    assert add_finalizer(["a", MINE], MINE) == []
    assert remove_finalizer(["a"], MINE) == []
    assert remove_finalizer(None, MINE) == []


@given(names)
def test_every_copy_is_removed_and_nothing_else(old: list[str]) -> None:
    assert apply(old, remove_finalizer(old, MINE)) == [name for name in old if name != MINE]


@pytest.mark.parametrize("now", [["other"], ["a/b", "other"], ["other", "a/b"]])
def test_adding_fails_when_the_list_changed_meanwhile(now: list[str]) -> None:
    with pytest.raises(jsonpatch.JsonPatchException):
        apply(now, add_finalizer(["a/b"], MINE))


def test_removing_fails_when_the_place_holds_another_one() -> None:
    with pytest.raises(jsonpatch.JsonPatchException):
        apply(["other", MINE], remove_finalizer([MINE], MINE))


json = st.recursive(
    st.sampled_from((True, False, 0, 7, "x", "")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abcd"), json, max_size=4)


def apply_merge(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, as written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply_merge(result.get(name), value)
    return result


@given(objects, objects)
def test_merge_patch_turns_the_first_into_the_second(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge(before, after)
    assert apply_merge(before, patch) == after
    assert bool(patch) == (before != after)


def test_pointer_parts_are_escaped() -> None:
    assert escape("csi.alpha.kubernetes.io/node~id") == "csi.alpha.kubernetes.io~1node~0id"
