from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from csisidecar.config import KubeConfig
from csisidecar.errors import ForbiddenError
from csisidecar.kube import PERSISTENT_VOLUMES, KubeClient, connect
from tests.envtest.control_plane import control_plane

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]


async def test_administrator_may_everything_and_a_user_without_roles_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path, users={"nobody": ()}) as plane:
        async with connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session:
            assert (await KubeClient(session).raw_get("/version"))["major"]
        async with connect(KubeConfig(kubeconfig=str(plane.kubeconfigs["nobody"]))) as session:
            with pytest.raises(ForbiddenError):
                await KubeClient(session).get(PERSISTENT_VOLUMES, "pv1")
