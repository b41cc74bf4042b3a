"""A Sidecar inside somebody else's program: it keeps what it promises to whoever awaits it."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import pytest

from csisidecar import (
    Attacher,
    AttacherSettings,
    ConfigError,
    HTTPConfig,
    Listener,
    ModeConfig,
    Plugin,
    Provisioner,
    ProvisionerSettings,
    Sidecar,
    SidecarConfig,
)
from csisidecar.config import KubeConfig, LeaseConfig
from csisidecar.demo.props import build_claim, build_class
from csisidecar.kube import connect
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(60)]


def config(**changes: object) -> SidecarConfig:
    settings: dict[str, object] = {
        "http": HTTPConfig(listeners=(Listener(address="127.0.0.1:0", flag="http-endpoint"),)),
        "shutdown_grace_s": 5.0,
    }
    return SidecarConfig(**{**settings, **changes})  # type: ignore[arg-type]


async def ready(sidecar: Sidecar) -> None:
    async with asyncio.timeout(15):
        while not sidecar.health.report().is_ok:
            await asyncio.sleep(0.02)


async def test_two_sidecars_in_one_loop_work_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    handlers = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    log_handlers = list(logging.getLogger().handlers)
    drivers = [FakeDriver(DriverSettings(name=f"{name}.csi.example.com")) for name in ("one", "two")]
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        async with connect(KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"))) as session:
            sidecars = [
                Sidecar(config(), plugins=[Provisioner(ProvisionerSettings())], csi=driver.services, kube=session)
                for driver in drivers
            ]
            async with asyncio.TaskGroup() as group:
                for sidecar in sidecars:
                    group.create_task(sidecar.run())
                for sidecar, driver in zip(sidecars, drivers, strict=True):
                    await ready(sidecar)
                    name = driver.settings.name
                    server.objects.create(build_class(name, name))
                    claim = build_claim(name, storage_class=name)
                    claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": name}
                    server.objects.create(claim)
                async with asyncio.timeout(10):
                    while server.objects.count("persistentvolumes") < 2:
                        await asyncio.sleep(0.02)
                for sidecar in sidecars:
                    sidecar.stop()
            assert [len(driver.volumes) for driver in drivers] == [1, 1]
            assert [lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")] == [""] * 4
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert logging.getLogger().handlers == log_handlers


async def test_cancelled_sidecar_releases_its_lease_and_ends(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        kube = KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"))
        sidecar = Sidecar(config(kube=kube), plugins=[Attacher(AttacherSettings())], csi=driver.services)
        task = asyncio.create_task(sidecar.run())
        async with asyncio.timeout(10):
            while "(leading)" not in sidecar.health.report().text:
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")} == {""}


@pytest.mark.parity("R-RETRY-04")
async def test_failing_plugin_is_restarted_and_disturbs_nobody(tmp_path: Path) -> None:
    class Faulty(Attacher):
        starts = 0

        @property
        def name(self) -> str:
            return "faulty"

        def lease_name(self, driver_name: str) -> str:
            return f"faulty-{super().lease_name(driver_name)}"

        def build(self, ctx):  # type: ignore[no-untyped-def]
            controllers = super().build(ctx)

            class Trigger:
                store = None
                interval_s = 0.0

                def keys(self, change: object) -> tuple[()]:
                    return ()

                def all_keys(self) -> tuple[()]:
                    Faulty.starts += 1
                    raise RuntimeError("a fault in somebody's plugin")

            controllers[0]._triggers = (Trigger(),)
            return controllers

    driver = FakeDriver()
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        kube = KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"))
        plugins: list[Plugin] = [Faulty(AttacherSettings()), Provisioner(ProvisionerSettings())]
        sidecar = Sidecar(config(kube=kube), plugins=plugins, csi=driver.services)
        task = asyncio.create_task(sidecar.run())
        async with asyncio.timeout(20):
            while Faulty.starts < 2:
                await asyncio.sleep(0.05)
        report = sidecar.health.report().text
        assert "[-]mode-faulty failed: RuntimeError: a fault in somebody's plugin" in report
        assert "[+]mode-provisioner ok" in report
        sidecar.stop()
        await task


async def test_without_leases_no_lease_is_touched(tmp_path: Path) -> None:
    driver = FakeDriver()
    modes = {"provisioner": ModeConfig(lease=LeaseConfig(enabled=False))}
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        kube = KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"))
        sidecar = Sidecar(
            config(kube=kube, modes=modes), plugins=[Provisioner(ProvisionerSettings())], csi=driver.services
        )
        task = asyncio.create_task(sidecar.run())
        await ready(sidecar)
        sidecar.stop()
        await task
        assert server.objects.count("leases") == 0


def test_plugins_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="names must differ"):
        Sidecar(SidecarConfig(), plugins=[Attacher(AttacherSettings()), Attacher(AttacherSettings())])
