"""What follows from a deletion: dependents, orphans, foreground, and namespaces that end.

On a real server the garbage collector and the namespace controller of kube-controller-manager do this; where
KUBEBUILDER_ASSETS has none, these tests are skipped there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import config_map, with_meta
from tests.envtest.control_plane import why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.apiserver.client import Answer, Client
    from tests.apiserver.conftest import Server
    from tests.envtest.control_plane import ControlPlane

CONTROLLERS = "garbage-collector-controller,namespace-controller"


@contextmanager
def _controller_manager(plane: ControlPlane) -> Iterator[None]:
    import subprocess

    words = [
        str(Path(os.environ["KUBEBUILDER_ASSETS"]) / "kube-controller-manager"),
        f"--kubeconfig={plane.kubeconfig}",
        f"--controllers={CONTROLLERS}",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--leader-elect=false",
    ]
    with (plane.folder / "kube-controller-manager.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def manager() -> Iterator[list[Any]]:
    """A place for the one controller manager, started by the first test that needs it."""
    started: list[Any] = []
    yield started
    for block in started:
        block.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _somebody_collects(place: ControlPlane | None, manager: list[Any]) -> None:
    if place is None or manager:
        return
    reason = why_not("kube-controller-manager")
    if reason:
        pytest.skip(reason)
    block = _controller_manager(place)
    block.__enter__()
    manager.append(block)


def _owned(name: str, owner: Answer, *, blocks: bool = False, **more: Any) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.meta["name"], "uid": owner.meta["uid"]}
    if blocks:
        reference["blockOwnerDeletion"] = True
    return with_meta(config_map(name), ownerReferences=[reference], **more)


async def test_dependents_go_with_their_owner(server: Server, client: Client) -> None:
    owner = (await client.post(server.maps, config_map("owner"))).ok(201)
    (await client.post(server.maps, _owned("dependent", owner))).ok(201)
    (await client.delete(f"{server.maps}/owner", propagationPolicy="Background")).ok()
    await client.gone(f"{server.maps}/dependent")


async def test_dependent_with_another_owner_stays(server: Server, client: Client) -> None:
    owners = [(await client.post(server.maps, config_map(f"owner-{number}"))).ok(201) for number in range(2)]
    body = _owned("dependent", owners[0])
    body["metadata"]["ownerReferences"] += _owned("x", owners[1])["metadata"]["ownerReferences"]
    (await client.post(server.maps, body)).ok(201)
    (await client.delete(f"{server.maps}/owner-0", propagationPolicy="Background")).ok()
    left = await client.eventually(f"{server.maps}/dependent", lambda answer: len(answer.meta["ownerReferences"]) == 1)
    assert left.meta["ownerReferences"][0]["name"] == "owner-1"


async def test_orphans_are_let_go(server: Server, client: Client) -> None:
    owner = (await client.post(server.maps, config_map("owner"))).ok(201)
    (await client.post(server.maps, _owned("dependent", owner))).ok(201)
    (await client.delete(f"{server.maps}/owner", propagationPolicy="Orphan")).ok()
    await client.gone(f"{server.maps}/owner")
    left = (await client.get(f"{server.maps}/dependent")).ok()
    assert "ownerReferences" not in left.meta


async def test_foreground_waits_for_blocking_dependents(server: Server, client: Client) -> None:
    owner = (await client.post(server.maps, config_map("owner"))).ok(201)
    held = _owned("dependent", owner, blocks=True, finalizers=["x.example.com/held"])
    (await client.post(server.maps, held)).ok(201)
    (await client.delete(f"{server.maps}/owner", propagationPolicy="Foreground")).ok()
    await client.eventually(f"{server.maps}/dependent", lambda answer: "deletionTimestamp" in answer.meta)
    assert (await client.get(f"{server.maps}/owner")).ok().meta["finalizers"] == ["foregroundDeletion"]
    (await client.merge(f"{server.maps}/dependent", {"metadata": {"finalizers": None}})).ok()
    await client.gone(f"{server.maps}/owner")


async def test_object_of_an_owner_that_never_was_goes(server: Server, client: Client) -> None:
    owner = (await client.post(server.maps, config_map("owner"))).ok(201)
    (await client.delete(f"{server.maps}/owner")).ok()
    (await client.post(server.maps, _owned("dependent", owner))).ok(201)
    await client.gone(f"{server.maps}/dependent")


async def test_namespace_ends_with_all_that_is_in_it(server: Server, client: Client) -> None:
    await server.fill(3)
    (await client.post(server.leases, {"metadata": {"name": "l"}, "spec": {}})).ok(201)
    (await client.delete(server.space)).ok()
    await client.gone(server.space)
    assert (await client.get(server.maps)).ok()["items"] == []
    assert (await client.get(server.leases)).ok()["items"] == []


async def test_namespace_waits_for_what_is_held(server: Server, client: Client) -> None:
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=["x.example.com/held"]))).ok(201)
    (await client.delete(server.space)).ok()
    await client.eventually(f"{server.maps}/m", lambda answer: "deletionTimestamp" in answer.meta)
    assert (await client.get(server.space)).ok()["status"]["phase"] == "Terminating"
    (await client.merge(f"{server.maps}/m", {"metadata": {"finalizers": None}})).ok()
    await client.gone(server.space)
