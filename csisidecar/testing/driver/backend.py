"""Where the embedded driver keeps bytes and records: in memory, or as directories that survive a restart."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from csisidecar.errors import ConfigError
from csisidecar.testing.driver.records import SnapshotRecord, VolumeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_T = TypeVar("_T")


class Backend(Protocol):
    """Bytes of volumes and snapshots, and the records beside them.

    Every method may be repeated. The driver never runs two for the same volume or snapshot at once.
    """

    async def load(self) -> tuple[list[VolumeRecord], list[SnapshotRecord]]:
        """What was kept from before."""
        ...

    async def save(self, record: VolumeRecord | SnapshotRecord) -> None:
        """Keeps the record as it is now."""
        ...

    async def create_volume(self, record: VolumeRecord) -> None:
        """Makes the volume's bytes, copied from its source if it has one."""
        ...

    async def resize_volume(self, record: VolumeRecord) -> None:
        """Brings a block volume to its new capacity; a mounted one has no size of its own."""
        ...

    async def delete_volume(self, record: VolumeRecord) -> None:
        """Removes bytes and record."""
        ...

    async def create_snapshot(self, record: SnapshotRecord) -> None:
        """Copies the source volume's bytes as they are now."""
        ...

    async def delete_snapshot(self, record: SnapshotRecord) -> None:
        """Removes bytes and record."""
        ...

    async def link(self, record: VolumeRecord, path: str) -> None:
        """Makes the volume appear at `path`: a directory, or a file for a block volume."""
        ...

    async def unlink(self, path: str) -> None:
        """Takes away what `link` made."""
        ...

    async def used(self, record: VolumeRecord) -> tuple[int, int]:
        """Bytes and files in the volume."""
        ...


class MemoryBackend:
    """Everything in dictionaries; no thread, no file, so it also runs in virtual time.

    Attributes:
        contents: volume or snapshot id → file name → bytes; tests read and write it.
        links: path → volume id.
    """

    def __init__(self) -> None:
        self.contents: dict[str, dict[str, bytes]] = {}
        self.links: dict[str, str] = {}
        self._kept: dict[str, VolumeRecord | SnapshotRecord] = {}

    async def load(self) -> tuple[list[VolumeRecord], list[SnapshotRecord]]:
        """What an earlier driver on this same object saved."""
        volumes = [item for item in self._kept.values() if isinstance(item, VolumeRecord)]
        return volumes, [item for item in self._kept.values() if isinstance(item, SnapshotRecord)]

    async def save(self, record: VolumeRecord | SnapshotRecord) -> None:
        """Keeps the very object."""
        self._kept[record.id] = record

    async def create_volume(self, record: VolumeRecord) -> None:
        """Copies the source's files, or starts empty."""
        self.contents[record.id] = dict(self.contents.get(record.source.id, {})) if record.source else {}

    async def resize_volume(self, record: VolumeRecord) -> None:
        """Nothing has a size here."""

    async def delete_volume(self, record: VolumeRecord) -> None:
        """Forgets files and record."""
        self.contents.pop(record.id, None)
        self._kept.pop(record.id, None)

    async def create_snapshot(self, record: SnapshotRecord) -> None:
        """Copies the files."""
        self.contents[record.id] = dict(self.contents.get(record.source_volume_id, {}))

    async def delete_snapshot(self, record: SnapshotRecord) -> None:
        """Forgets files and record."""
        self.contents.pop(record.id, None)
        self._kept.pop(record.id, None)

    async def link(self, record: VolumeRecord, path: str) -> None:
        """Remembers the path."""
        self.links[path] = record.id

    async def unlink(self, path: str) -> None:
        """Forgets the path."""
        self.links.pop(path, None)

    async def used(self, record: VolumeRecord) -> tuple[int, int]:
        """Sum and count of the files."""
        files = self.contents.get(record.id, {})
        return sum(map(len, files.values())), len(files)


class DirectoryBackend:
    """Volumes and snapshots as directories below `root`, real bytes in them, a JSON record beside each.

    ``volumes/ID/`` holds the files of a mounted volume, or the one file ``disk`` of a block volume (sparse, as long
    as the capacity); ``volumes/ID.json`` is its record. ``snapshots/`` likewise. A record is replaced in one rename
    and written after the bytes it speaks of, so what a killed driver leaves half done is not there for the next one.
    All file work runs in threads.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._volumes, self._snapshots = root / "volumes", root / "snapshots"

    async def load(self) -> tuple[list[VolumeRecord], list[SnapshotRecord]]:
        """Reads every record; bytes without a record (a driver killed in the middle) are removed."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> tuple[list[VolumeRecord], list[SnapshotRecord]]:
        for folder in (self._volumes, self._snapshots):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if path.suffix == ".tmp":
                    path.unlink()
                elif path.is_dir() and not path.with_name(f"{path.name}.json").exists():
                    shutil.rmtree(path)
        return _read(self._volumes, VolumeRecord.from_json), _read(self._snapshots, SnapshotRecord.from_json)

    async def save(self, record: VolumeRecord | SnapshotRecord) -> None:
        """Writes the record beside the bytes."""
        folder = self._volumes if isinstance(record, VolumeRecord) else self._snapshots
        await asyncio.to_thread(_write, folder / f"{record.id}.json", record.to_json())

    async def create_volume(self, record: VolumeRecord) -> None:
        """Makes the directory, as a copy if there is a source, and the disk of a block volume."""
        source: Path | None = None
        if record.source:
            source = (self._snapshots if record.source.kind == "snapshot" else self._volumes) / record.source.id
        await asyncio.to_thread(
            _fill, self._volumes / record.id, source, record.capacity_bytes if record.block else None
        )

    async def resize_volume(self, record: VolumeRecord) -> None:
        """Makes the disk of a block volume longer."""
        if record.block:
            await asyncio.to_thread(_set_size, self._volumes / record.id / "disk", record.capacity_bytes)

    async def delete_volume(self, record: VolumeRecord) -> None:
        """Removes the record first: without it the bytes are rubbish also to the next process."""
        await asyncio.to_thread(_remove, self._volumes / record.id)

    async def create_snapshot(self, record: SnapshotRecord) -> None:
        """Copies the volume's directory."""
        source = self._volumes / record.source_volume_id
        await asyncio.to_thread(_fill, self._snapshots / record.id, source, None)

    async def delete_snapshot(self, record: SnapshotRecord) -> None:
        """As `delete_volume`."""
        await asyncio.to_thread(_remove, self._snapshots / record.id)

    async def link(self, record: VolumeRecord, path: str) -> None:
        """Puts a symbolic link at `path`, in place of an empty directory if there is one; needs no root."""
        target = self._volumes / record.id
        await asyncio.to_thread(_link, Path(path), target / "disk" if record.block else target)

    async def unlink(self, path: str) -> None:
        """Removes the link; a path that is gone or was never a link is left as it is."""
        await asyncio.to_thread(_unlink, Path(path))

    async def used(self, record: VolumeRecord) -> tuple[int, int]:
        """Bytes and files below the volume's directory."""
        return await asyncio.to_thread(_used, self._volumes / record.id)


def _read(folder: Path, decode: Callable[[Mapping[str, Any]], _T]) -> list[_T]:
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(decode(json.loads(path.read_text())))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is no record of this driver ({error}); remove it or give another --root"
            ) from None
    return records


def _write(path: Path, data: Mapping[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(data, file, indent=1, sort_keys=True)
    Path(file.name).replace(path)


def _fill(target: Path, source: Path | None, disk_bytes: int | None) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source is None:
        target.mkdir(parents=True)
    else:
        shutil.copytree(source, target, symlinks=True)
    if disk_bytes is not None:
        _set_size(target / "disk", disk_bytes)


def _set_size(path: Path, size_bytes: int) -> None:
    with path.open("ab") as file:
        file.truncate(size_bytes)


def _remove(directory: Path) -> None:
    directory.with_name(f"{directory.name}.json").unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _link(path: Path, target: Path) -> None:
    if path.is_symlink():
        if path.readlink() == target.resolve():
            return
        path.unlink()
    elif path.is_dir():
        path.rmdir()
    elif path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.resolve())


def _unlink(path: Path) -> None:
    if path.is_symlink():
        path.unlink()


def _used(directory: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in directory.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)
