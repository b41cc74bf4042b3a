"""What happens after a write without anybody asking: garbage collection by owner reference, and namespaces that end.

Source: Kubernetes documentation, "Garbage Collection"; kubernetes/kubernetes, pkg/controller/garbagecollector and
pkg/controller/namespace.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.registry import DeleteOptions, Registry
from csisidecar.testing.apiserver.status import Refusal

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.store import Change, Stored, Table

_LOG = logging.getLogger(__name__)
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


class Collector:
    """Follows all changes of one store and finishes what they started."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.store = registry.store
        self._work: deque[tuple[str, str, str]] = deque()
        self._is_due = False
        self._owned: dict[str, set[tuple[str, str]]] = {}
        """Owner uid → storage name and key of each dependent."""
        self._uids: dict[str, tuple[str, str]] = {}
        """uid of every object → storage name and key."""
        self.is_running = False
        """Off while objects are loaded; what is due then waits for `settle`."""
        self.store.on_change.append(self._note)

    def settle(self) -> None:
        """Do all that is due now, and what that leads to."""
        self._is_due = False
        while self._work:
            name, namespace, what = self._work.popleft()
            try:
                self._act(name, namespace, what)
            except Refusal as refusal:
                _LOG.debug("garbage collection refused", extra={"object": what, "reason": refusal.message})

    def _note(self, table: Table, change: Change) -> None:
        now, place = change.now, (table.spec.storage_name, change.now.key)
        before = change.before
        for uid in before.owners if before is not None else ():
            self._owned.get(uid, set()).discard(place)
        if change.kind == "DELETED":
            self._uids.pop(now.uid, None)
            if self._owned.get(now.uid):
                self._push(table, "", f"orphaned:{now.uid}")
            for uid in now.owners:
                self._push_owner(uid)
        else:
            self._uids[now.uid] = place
            for uid in now.owners:
                self._owned.setdefault(uid, set()).add(place)
            if change.kind == "ADDED" and now.owners:
                self._push(table, now.namespace, f"check:{now.name}")
            elif before is not None and before.owners != now.owners:
                for uid in before.owners:
                    self._push_owner(uid)
            if b'"deletionTimestamp":' in now.raw:
                self._push(table, now.namespace, f"ending:{now.name}")
        if table.spec.namespaced and change.kind == "DELETED":
            namespaces = self.store.table(self.store.kinds.by_plural("namespaces"))
            owner = namespaces.objects.get(now.namespace)
            if owner is not None and b'"deletionTimestamp":' in owner.raw:
                self._push(namespaces, "", f"ending:{owner.name}")

    def _push(self, table: Table, namespace: str, what: str) -> None:
        self._work.append((table.spec.storage_name, namespace, what))
        if not self._is_due and self.is_running:
            # At the next turn of the loop: callers see their own answer before what follows from it.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.settle)

    def _push_owner(self, uid: str) -> None:
        place = self._uids.get(uid)
        if place is not None:
            table = self.store.tables[place[0]]
            stored = table.objects.get(place[1])
            if stored is not None and b'"deletionTimestamp":' in stored.raw:
                self._push(table, stored.namespace, f"ending:{stored.name}")

    def _act(self, storage_name: str, namespace: str, what: str) -> None:
        task, _, name = what.partition(":")
        if task == "orphaned":
            for place in list(self._owned.get(name, ())):
                self._check(place)
            return
        table = self.store.tables[storage_name]
        stored = table.get(namespace, name)
        if stored is None:
            return
        if task == "check":
            self._check((storage_name, stored.key))
        elif table.spec.storage_name == "namespaces":
            self._end_namespace(table.spec, stored)
        else:
            self._end(table, stored)

    def _check(self, place: tuple[str, str]) -> None:
        """Remove a dependent all of whose owners are gone; take gone owners off one that has others."""
        table = self.store.tables[place[0]]
        stored = table.objects.get(place[1])
        if stored is None:
            return
        content = stored.content()
        references = content["metadata"].get("ownerReferences", [])
        left = [reference for reference in references if self._may_exist(reference)]
        if len(left) == len(references):
            return
        if not left:
            options = DeleteOptions(uid=stored.uid, propagation="Background")
            self.registry.delete(table.spec, stored.namespace, stored.name, options)
            return
        content["metadata"]["ownerReferences"] = left
        self.registry.finish(table.spec, stored, content)

    def _may_exist(self, reference: dict[str, Any]) -> bool:
        if reference.get("uid") in self._uids:
            return True
        # An owner of a kind that is not served here is somebody else's to judge.
        return self.store.kinds.find_kind(reference.get("apiVersion", ""), reference.get("kind", "")) is None

    def _dependents(self, uid: str) -> list[tuple[Table, Stored]]:
        found = []
        for storage_name, key in self._owned.get(uid, ()):
            table = self.store.tables[storage_name]
            stored = table.objects.get(key)
            if stored is not None:
                found.append((table, stored))
        return found

    def _end(self, table: Table, stored: Stored) -> None:
        content = stored.content()
        finalizers = content["metadata"].get("finalizers", [])
        if _ORPHAN in finalizers:
            for owned_table, dependent in self._dependents(stored.uid):
                changed = dependent.content()
                changed["metadata"]["ownerReferences"] = [
                    reference
                    for reference in changed["metadata"].get("ownerReferences", ())
                    if reference.get("uid") != stored.uid
                ]
                if not changed["metadata"]["ownerReferences"]:
                    del changed["metadata"]["ownerReferences"]
                self.registry.finish(owned_table.spec, dependent, changed)
            self._drop(table, stored, _ORPHAN)
        elif _FOREGROUND in finalizers:
            blocking = False
            for owned_table, dependent in self._dependents(stored.uid):
                references = dependent.content()["metadata"].get("ownerReferences", ())
                mine = [reference for reference in references if reference.get("uid") == stored.uid]
                blocks = any(reference.get("blockOwnerDeletion") for reference in mine)
                if b'"deletionTimestamp":' not in dependent.raw:
                    options = DeleteOptions(uid=dependent.uid, propagation="Foreground" if blocks else "Background")
                    _, gone = self.registry.delete(owned_table.spec, dependent.namespace, dependent.name, options)
                    blocking = blocking or (blocks and not gone)
                else:
                    blocking = blocking or blocks
            if not blocking:
                self._drop(table, stored, _FOREGROUND)

    def _drop(self, table: Table, stored: Stored, finalizer: str) -> None:
        current = table.objects.get(stored.key)
        if current is None:
            return
        content = current.content()
        left = [item for item in content["metadata"].get("finalizers", ()) if item != finalizer]
        content["metadata"]["finalizers"] = left
        if not left:
            del content["metadata"]["finalizers"]
        self.registry.finish(table.spec, current, content)

    def _end_namespace(self, spec: KindSpec, stored: Stored) -> None:
        """Empty a namespace that ends, then let it go."""
        content = stored.content()
        if not content["spec"].get("finalizers"):
            return
        remaining = 0
        for table in list(self.store.tables.values()):
            if not table.spec.namespaced:
                continue
            for item in table.range(stored.name):
                gone = False
                if b'"deletionTimestamp":' not in item.raw or table.spec.storage_name == "pods":
                    options = DeleteOptions(uid=item.uid, grace_s=0, propagation="Background")
                    _, gone = self.registry.delete(table.spec, item.namespace, item.name, options)
                remaining += not gone
        if remaining:
            return
        content["spec"] = {}
        self.registry.finish(spec, stored, content)
