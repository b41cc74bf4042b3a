"""Lists: which objects a GET of a collection answers with, page by page and at which revision.

Source: kubernetes/apiserver, pkg/storage/continue.go and pkg/storage/etcd3/store.go (GetList); Kubernetes API
concepts, "Resource versions" and "Retrieving large results sets in chunks".
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.selectors import Predicate, field_predicate, label_predicate
from csisidecar.testing.apiserver.status import (
    Cause,
    Refusal,
    bad_request,
    expired,
    forbidden_field,
    invalid_options,
    too_large,
    unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.store import Store, Stored

_EXACT, _NOT_OLDER = "Exact", "NotOlderThan"
_PAGE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """The query of a list or a watch, read and checked."""

    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continue_token: str = ""
    keep: Predicate | None = None
    pinned_name: str = ""
    """The one name that can match; "" when any can."""
    watch: bool = False
    bookmarks: bool = False
    send_initial_events: bool | None = None
    timeout_s: float | None = None

    @classmethod
    def read(
        cls, query: Mapping[str, str], spec: KindSpec, selectable: Sequence[str], *, name: str = ""
    ) -> ListOptions:
        """From a request's query.

        Raises:
            Refusal: 400 for what cannot be read, 422 for options that do not go together.
        """
        watch = _flag(query, "watch")
        options = cls._raw(query, spec, selectable, watch=watch, name=name)
        causes = _watch_causes(options) if watch else _list_causes(options)
        if causes:
            raise invalid_options("ListOptions", "meta.k8s.io", causes)
        return options

    @classmethod
    def _raw(
        cls, query: Mapping[str, str], spec: KindSpec, selectable: Sequence[str], *, watch: bool, name: str
    ) -> ListOptions:
        by_label = label_predicate(query.get("labelSelector", ""))
        fields = query.get("fieldSelector", "")
        if name:
            fields = f"{fields},metadata.name={name}" if fields else f"metadata.name={name}"
        by_field, pinned = field_predicate(fields, spec, selectable)
        initial = query.get("sendInitialEvents")
        timeout = query.get("timeoutSeconds")
        return cls(
            resource_version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
            limit=_number(query, "limit"),
            continue_token=query.get("continue", ""),
            keep=_both(by_label, by_field),
            pinned_name=pinned,
            watch=watch,
            bookmarks=_flag(query, "allowWatchBookmarks"),
            send_initial_events=None if initial in {None, ""} else _flag(query, "sendInitialEvents"),
            timeout_s=float(_number(query, "timeoutSeconds")) if timeout else None,
        )

    def revision(self) -> int | None:
        """The resourceVersion as a number; None when none was given.

        Raises:
            Refusal: 400, it is no number.
        """
        if self.resource_version == "":
            return None
        if not self.resource_version.isdecimal() or int(self.resource_version) >= 1 << 64:
            shown = self.resource_version
            why = "value out of range" if shown.isdecimal() else "invalid syntax"
            text = f'resourceVersion: Invalid value: "{shown}": strconv.ParseUint: parsing "{shown}": {why}'
            raise Refusal(500, "", text) if self.watch else bad_request(f"invalid resource version: {text}")
        return int(self.resource_version)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name)
    return text is not None and text.lower() not in {"false", "0", "f"} and not (text == "" and name != "watch")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "") or "0"
    try:
        number = int(text)
    except ValueError as error:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error
    return max(0, number)


def _both(left: Predicate | None, right: Predicate | None) -> Predicate | None:
    if left is None or right is None:
        return left or right
    return lambda stored: left(stored) and right(stored)


def _list_causes(options: ListOptions) -> list[Cause]:
    causes = []
    if options.match:
        if not options.resource_version:
            causes.append(
                forbidden_field(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        if options.continue_token:
            causes.append(
                forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            )
        if options.match not in {_EXACT, _NOT_OLDER}:
            causes.append(unsupported("resourceVersionMatch", options.match, (_EXACT, _NOT_OLDER, "")))
        if options.match == _EXACT and options.resource_version == "0":
            causes.append(
                forbidden_field(
                    "resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                )
            )
    if options.send_initial_events is not None:
        causes.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(options: ListOptions) -> list[Cause]:
    causes = []
    if options.send_initial_events is not None and options.match != _NOT_OLDER:
        causes.append(
            forbidden_field(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        )
    if options.match:
        if options.send_initial_events is None:
            causes.append(
                forbidden_field(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
            )
        if options.match != _NOT_OLDER:
            causes.append(unsupported("resourceVersionMatch", options.match, (_NOT_OLDER,)))
        if options.continue_token:
            causes.append(
                forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            )
    return causes


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a list answers with."""

    items: Sequence[Stored]
    revision: int
    continue_token: str = ""
    remaining: int | None = None

    def meta(self) -> dict[str, Any]:
        """The list's metadata."""
        meta: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            meta["continue"] = self.continue_token
            if self.remaining is not None:
                meta["remainingItemCount"] = self.remaining
        return meta


def page(store: Store, spec: KindSpec, namespace: str, options: ListOptions, *, back: int = 0) -> Page:
    """The objects a list sees; `back` makes it see a state that many changes of the kind ago.

    Raises:
        Refusal: 400 or 410 for the continue token, 410 or 504 for the resourceVersion.
    """
    table = store.table(spec)
    asked = options.revision()
    start = ""
    if options.continue_token:
        if asked not in {None, 0}:
            raise bad_request("specifying resource version is not allowed when using continue")
        asked, start = _read_token(options.continue_token)
        try:
            items = table.at(asked, namespace) if asked > 0 else table.range(namespace)
        except Refusal as refusal:
            raise expired(_PAGE_EXPIRED, continue_token=_token(-1, start)) from refusal
        revision = asked if asked > 0 else store.revision
        items = [item for item in items if item.key >= start]
    else:
        if asked is not None and asked > store.revision:
            raise too_large(asked, store.revision)
        if (options.match == _EXACT and asked) or (asked and options.limit and not options.match):
            revision, items = asked, table.at(asked, namespace)
        elif back and table.log:
            index = max(0, len(table.log) - back - 1)
            revision = table.log[index].revision if len(table.log) > back else table.floor
            items = table.at(revision, namespace)
        elif options.pinned_name and (namespace or not spec.namespaced):
            found = table.get(namespace, options.pinned_name)
            revision, items = store.revision, [found] if found is not None else []
        else:
            revision, items = store.revision, table.range(namespace)
    if options.keep is not None:
        items = [item for item in items if options.keep(item)]
    # A list of "any" state comes from the cache of a real server, which gives everything whatever the limit.
    if not options.limit or len(items) <= options.limit or options.resource_version == "0":
        return Page(items=items, revision=revision)
    rest = len(items) - options.limit
    return Page(
        items=items[: options.limit],
        revision=revision,
        continue_token=_token(revision, items[options.limit].key),
        remaining=rest if options.keep is None else None,
    )


def _token(revision: int, start: str) -> str:
    plain = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, str]:
    try:
        plain = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, start = int(plain["rv"]), str(plain["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request(
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0"
        ) from error
    if plain.get("v") != "meta.k8s.io/v1" or revision == 0 or not start:
        raise bad_request("continue key is not valid: unrecognized version or start")
    return revision, start
