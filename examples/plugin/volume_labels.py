"""A plugin of one's own: labels each PersistentVolume of the driver, so that `kubectl get pv -l` can select them.

Run it beside the built-in modes, in the same process and on the same watch of PersistentVolumes:

    csisidecar run --mode=all,volume-labels --plugin-option volume-labels.label=storage.example.com/driver
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.backoff import Backoff
from csisidecar.errors import ConfigError
from csisidecar.kube import PERSISTENT_VOLUMES, KubeClient, ObjectKey, Volume
from csisidecar.kube.objects import compact_volume
from csisidecar.runtime import DONE, Change, Controller, Result, Store, on_self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.config import PluginSettings
    from csisidecar.plugin import PluginContext

DEFAULT_LABEL = "storage.example.com/driver"


class VolumeLabels:
    """The plugin. The entry point names the class itself: calling it with settings gives the plugin."""

    def __init__(self, settings: PluginSettings) -> None:
        unknown = settings.options.keys() - {"label"}
        if unknown:
            raise ConfigError(f"--plugin-option volume-labels.{min(unknown)} is unknown; there is only: label")
        self._settings = settings
        self._label = settings.options.get("label", DEFAULT_LABEL)

    @property
    def name(self) -> str:
        """What `--mode` calls it."""
        return "volume-labels"

    def lease_name(self, driver_name: str) -> str:
        """One replica labels; the others stand by."""
        return f"volume-labels-{driver_name.replace('.', '-')}"

    def build(self, ctx: PluginContext) -> Sequence[Controller[Any]]:
        """One controller, fed by every PersistentVolume that still lacks the label."""
        volumes = ctx.stores.get(PERSISTENT_VOLUMES, Volume, compact=compact_volume)
        reconciler = Labeler(ctx.kube, volumes, driver=ctx.driver.name, label=self._label)

        def lacks_label(change: Change[Volume]) -> bool:
            return change.new is not None and reconciler.wants(change.new)

        return [
            Controller(
                name="volume-labels",
                reconciler=reconciler,
                triggers=[on_self(volumes, when=lacks_label)],
                workers=self._settings.worker_threads,
                backoff=Backoff(
                    start_s=self._settings.retry_interval_start_s, max_s=self._settings.retry_interval_max_s
                ),
            )
        ]


class Labeler:
    """Puts the label on one volume."""

    def __init__(self, kube: KubeClient, volumes: Store[Volume], *, driver: str, label: str) -> None:
        self._kube = kube
        self._volumes = volumes
        self._driver = driver
        self._label = label

    def wants(self, volume: Volume) -> bool:
        """Whether the volume is ours and lacks the label."""
        csi, labels = volume.spec.csi, volume.metadata.labels or {}
        return csi is not None and csi.driver == self._driver and labels.get(self._label) != self._driver

    async def reconcile(self, key: ObjectKey) -> Result:
        """Judged by the present state: what is right already costs no request."""
        volume = self._volumes.get(key)
        if volume is not None and self.wants(volume):
            await self._kube.patch(
                PERSISTENT_VOLUMES, volume.name, {"metadata": {"labels": {self._label: self._driver}}}
            )
        return DONE
