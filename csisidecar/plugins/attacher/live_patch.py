"""Patches that test what they change, sent from a copy that may be old: refused, they are built anew, once.

Two attachments of one volume put the same finalizer on it at the same time; people and other controllers edit
objects at any time. A bounded second try is here because the key's backoff would show such a harmless meeting as
an error and delay an attach by a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from csisidecar.errors import ConflictError, ForbiddenError, InvalidError, KubeError
from csisidecar.kube import KubeObject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from csisidecar.kube import KubeClient, Resource

_T = TypeVar("_T", bound=KubeObject)


async def ensure_patched(
    kube: KubeClient,
    resource: Resource,
    obj: _T,
    build: Callable[[_T], Sequence[Mapping[str, Any]] | None],
) -> _T:
    """`obj` after the JSON patch that `build` gives for it; as it is when that is None.

    Args:
        kube: sends the requests.
        resource: what `obj` is.
        obj: a cluster-wide object from a store.
        build: the patch for one state of the object, with `test` operations for what it relies on.

    Raises:
        NotFoundError: the object is gone.
        KubeError: refused for another reason, or refused twice.
    """
    patch = build(obj)
    if patch is None:
        return obj
    try:
        return _view(await kube.patch(resource, obj.name, patch), obj)
    except (InvalidError, ConflictError) as refused:
        try:
            fresh = _view(await kube.get(resource, obj.name), obj)
        except ForbiddenError:
            raise refused from None
        if fresh.uid != obj.uid:
            raise
        patch = build(fresh)
        return fresh if patch is None else _view(await kube.patch(resource, obj.name, patch), obj)


def _view(raw: dict[str, Any], like: _T) -> _T:
    try:
        return msgspec.convert(raw, type(like))
    except msgspec.ValidationError as error:
        raise KubeError(f"the API server answered with something that is no {type(like).__name__}: {error}") from error
