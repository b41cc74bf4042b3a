"""What every client program shares: named steps, a last line that counts them, and objects."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_E = TypeVar("_E", bound=Exception)

DRIVER = "directories.csi.demo"
CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "peer", "namespace": "default"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "peer",
    },
}
CLASS: dict[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "peer"},
    "provisioner": DRIVER,
}
_done: list[str] = []


@contextmanager
def step(name: str) -> Iterator[None]:
    """Counts the block, or says which one failed."""
    try:
        yield
    except BaseException:
        print(f"failed: {name}", file=sys.stderr)
        raise
    _done.append(name)


@contextmanager
def refused(kind: type[_E], holds: Callable[[_E], bool]) -> Iterator[None]:
    """The block must raise `kind`, and as told."""
    try:
        yield
    except kind as error:
        if not holds(error):
            raise
    else:
        raise RuntimeError(f"no {kind.__name__} came")


def summary(name: str, version: str) -> None:
    """The last line: what ran."""
    print(f"{name} {version}: {len(_done)} steps: {'; '.join(_done)}")
