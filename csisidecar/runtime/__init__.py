"""Controllers on one event loop: watch, store, queue, reconcile, lead. Has never heard of volumes or CSI.

Every part works without the others: a store can be filled by hand, a queue used alone, a watcher read directly.
"""

from __future__ import annotations

from csisidecar.runtime.controller import Controller, Host
from csisidecar.runtime.informer import Informer, Stores
from csisidecar.runtime.lifetime import background, unwrap
from csisidecar.runtime.queue import NullObserver, QueueClosed, QueueObserver, WorkQueue
from csisidecar.runtime.reconcile import DONE, Attempt, Reconciler, Result, current_attempt, note_write
from csisidecar.runtime.recorder import EventRecorder, Regarding, clip
from csisidecar.runtime.store import Change, Store, StoreWriter
from csisidecar.runtime.triggers import Predicate, Trigger, at_start, every, on_mapped, on_self
from csisidecar.runtime.watcher import EventType, Watcher, WatchEvent

__all__ = [
    "DONE",
    "Attempt",
    "Change",
    "Controller",
    "EventRecorder",
    "EventType",
    "Host",
    "Informer",
    "NullObserver",
    "Predicate",
    "QueueClosed",
    "QueueObserver",
    "Reconciler",
    "Regarding",
    "Result",
    "Store",
    "StoreWriter",
    "Stores",
    "Trigger",
    "WatchEvent",
    "Watcher",
    "WorkQueue",
    "at_start",
    "background",
    "clip",
    "current_attempt",
    "every",
    "note_write",
    "on_mapped",
    "on_self",
    "unwrap",
]
