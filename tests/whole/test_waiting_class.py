"""A claim that waits for its Pod, through the whole system in one process."""

from __future__ import annotations

import pytest

from csisidecar.clock import SystemClock
from csisidecar.demo.observer import Observer
from csisidecar.demo.props import NAMESPACE, NODE, WAITING_CLASS, build_claim, build_pod
from csisidecar.demo.stage import set_up
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PODS, ObjectKey

pytestmark = pytest.mark.whole

STEP_S = 20.0
KEY = ObjectKey(NAMESPACE, "late")


async def test_volume_is_made_only_when_the_pod_has_a_node_and_goes_with_its_claim() -> None:
    clock = SystemClock()
    async with set_up(clock) as stage, Observer.opened(stage.client, clock) as observer:
        body = build_claim(KEY.name, storage_class=WAITING_CLASS)
        await stage.client.create(PERSISTENT_VOLUME_CLAIMS, body, namespace=NAMESPACE)
        await observer.until(lambda: any(e.reason == "WaitForFirstConsumer" for e in observer.events.values()), STEP_S)
        assert stage.driver.calls("CreateVolume") == []

        await stage.client.create(PODS, build_pod(KEY.name, KEY.name), namespace=NAMESPACE)

        def is_running() -> bool:
            pod = observer.pods.get(KEY)
            return pod is not None and pod.status.phase == "Running"

        await observer.until(is_running, STEP_S)
        claim = await stage.client.get(PERSISTENT_VOLUME_CLAIMS, KEY.name, namespace=NAMESPACE)
        assert claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == NODE
        assert list(stage.driver.published.values()) == [frozenset({stage.driver.settings.node_id})]

        await stage.client.delete(PODS, KEY.name, namespace=NAMESPACE)
        await stage.client.delete(PERSISTENT_VOLUME_CLAIMS, KEY.name, namespace=NAMESPACE)
        await observer.until(lambda: len(observer.volumes) == 0 and not stage.driver.volumes, STEP_S)
        assert len(observer.attachments) == 0
