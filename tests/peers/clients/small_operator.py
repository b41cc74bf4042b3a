"""kopf: a small operator that handles create, update and delete of PVCs, with the finalizer it puts on them.

One process: the operator in a thread, and the user beside it who makes, changes and deletes a claim.
"""

# mypy: ignore-errors
# Runs in the environment of the peers, which mypy does not look into.

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import kopf
from kubernetes import client, config
from steps import CLAIM, step, summary

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 20.0
FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
handled: list[str] = []


@kopf.on.startup()
def settle(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.level = logging.INFO
    settings.persistence.finalizer = FINALIZER


@kopf.on.login()
def login(**options: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_kubeconfig(**options)


@kopf.on.create("v1", "persistentvolumeclaims", labels={"peer": "kopf"})
def created(name: str, body: kopf.Body, **_: Any) -> dict[str, str]:
    handled.append(f"create {name}")
    kopf.info(body, reason="Seen", message="by the operator")
    return {"seen": name}


@kopf.on.update("v1", "persistentvolumeclaims", labels={"peer": "kopf"})
def updated(name: str, diff: Any, **_: Any) -> None:
    handled.append(f"update {name} {[change[1] for change in diff]}")


@kopf.on.delete("v1", "persistentvolumeclaims", labels={"peer": "kopf"})
def deleted(name: str, **_: Any) -> None:
    handled.append(f"delete {name}")


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {WAIT_S:g} s; handled: {handled}")
        time.sleep(0.1)


def main() -> None:
    os.environ["KUBECONFIG"] = sys.argv[1]
    config.load_kube_config(sys.argv[1])
    core = client.CoreV1Api()
    stop, ready = threading.Event(), threading.Event()
    operator = threading.Thread(
        target=lambda: asyncio.run(
            kopf.operator(standalone=True, namespace="default", stop_flag=stop, ready_flag=ready)
        )
    )
    operator.start()
    try:
        with step("start: discovery, watches"):
            assert ready.wait(WAIT_S)
        body = {**CLAIM, "metadata": {"name": "kopf", "labels": {"peer": "kopf"}}}
        with step("create is handled and the finalizer put on"):
            core.create_namespaced_persistent_volume_claim("default", body)
            until(lambda: "create kopf" in handled)
            until(lambda: FINALIZER in (_read(core).metadata.finalizers or []))
            until(lambda: any("last-handled" in key for key in _read(core).metadata.annotations or {}))
        with step("update is handled with its diff"):
            core.patch_namespaced_persistent_volume_claim("kopf", "default", {"metadata": {"labels": {"size": "big"}}})
            until(lambda: any(entry.startswith("update kopf") for entry in handled))
        with step("events are posted"):
            found = lambda: core.list_namespaced_event("default", field_selector="involvedObject.name=kopf")  # noqa: E731
            until(lambda: bool(found().items))
        with step("delete is handled and the finalizer taken off"):
            core.delete_namespaced_persistent_volume_claim("kopf", "default")
            until(lambda: "delete kopf" in handled)
            until(lambda: _read(core).metadata.finalizers == ["kubernetes.io/pvc-protection"])
        with step("the claim goes with its last finalizer"):
            core.patch_namespaced_persistent_volume_claim("kopf", "default", {"metadata": {"finalizers": None}})
            until(lambda: _is_gone(core))
    finally:
        stop.set()
        operator.join(WAIT_S)
    summary("kopf", version("kopf"))


def _read(core: client.CoreV1Api) -> Any:
    return core.read_namespaced_persistent_volume_claim("kopf", "default")


def _is_gone(core: client.CoreV1Api) -> bool:
    try:
        _read(core)
    except client.ApiException as error:
        return bool(error.status == 404)
    return False


if __name__ == "__main__":
    main()
