"""Pages through records by id, so that what is added or removed between two pages shifts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from grpclib.const import Status

from csisidecar.testing.driver.world import fail

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")

_MARK = "after:"


def page(records: Mapping[str, _T], max_entries: int, token: str) -> tuple[list[_T], str]:
    """The page behind `token` and the token of the next, empty at the end.

    ABORTED for a token that is not ours, as CSI asks for; INVALID_ARGUMENT for a negative size.
    """
    if max_entries < 0:
        fail(Status.INVALID_ARGUMENT, "max_entries is negative")
    if token and not token.startswith(_MARK):
        fail(Status.ABORTED, f"starting_token {token!r} is not known")
    ids = sorted(name for name in records if name > token.removeprefix(_MARK))
    chosen = ids[:max_entries] if max_entries else ids
    return [records[name] for name in chosen], f"{_MARK}{chosen[-1]}" if len(chosen) < len(ids) else ""
