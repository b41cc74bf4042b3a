"""A client that shows answers as they are, and small objects to send."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

CORE = "/api/v1"
STORAGE = "/apis/storage.k8s.io/v1"
VOLUMES = f"{CORE}/persistentvolumes"
ATTACHMENTS = f"{STORAGE}/volumeattachments"
CLASSES = f"{STORAGE}/storageclasses"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
DRIVER = "hostpath.example.com"
WAIT_S = 20.0

Object = dict[str, Any]


@dataclass
class Answer:
    """Status, headers and body; indexing looks into the body."""

    status: int
    body: Any
    headers: Mapping[str, str]
    text: str

    def __getitem__(self, key: str) -> Any:
        return self.body[key]

    @property
    def meta(self) -> Object:
        found: Object = self.body["metadata"]
        return found

    @property
    def revision(self) -> str:
        return str(self.meta["resourceVersion"])

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.body["items"]]

    @property
    def causes(self) -> list[str]:
        return [f"{cause['field']}: {cause['message']}" for cause in self.body["details"]["causes"]]

    def refused(self, status: int, reason: str) -> Answer:
        """Fails unless this is a Status of that kind, whole and consistent."""
        assert (self.status, self.body.get("kind")) == (status, "Status"), self.text
        assert self.body["apiVersion"] == "v1"
        assert self.body["status"] == "Failure"
        assert self.body.get("reason", "") == reason, self.text
        assert self.body["code"] == status
        assert isinstance(self.body["message"], str)
        assert self.headers["Content-Type"].startswith("application/json")
        return self

    def ok(self, status: int = 200) -> Answer:
        """Fails unless the request was carried out."""
        assert self.status == status, self.text
        return self


class Client:
    """JSON in, JSON out, no opinion about statuses."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "",
        raw: bytes | None = None,
        **query: Any,
    ) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        if accept:
            headers["Accept"] = accept
        shown = {key.rstrip("_"): str(value) for key, value in query.items()}
        sent = io.BytesIO(data) if data is not None else None
        async with self.session.request(method, self.url + path, data=sent, headers=headers, params=shown) as response:
            text = await response.text()
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            return Answer(response.status, found, response.headers, text)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.request("GET", path, **query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("POST", path, body, **query)

    async def put(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("PUT", path, body, **query)

    async def delete(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("DELETE", path, body, **query)

    async def merge(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/merge-patch+json", **query)

    async def json_patch(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/json-patch+json", **query)

    async def strategic(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/strategic-merge-patch+json", **query)

    async def apply(self, path: str, body: Any, *, manager: str = "me", **query: Any) -> Answer:
        return await self.request(
            "PATCH", path, body, content_type="application/apply-patch+yaml", fieldManager=manager, **query
        )

    def watch(self, path: str, *, accept: str = "", **query: Any) -> Watching:
        return Watching(self, path, {"watch": "true", **query}, accept)

    async def eventually(self, path: str, holds: Callable[[Answer], bool]) -> Answer:
        """The first answer for which `holds`; for what controllers do in their own time."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.get(path)
                if holds(answer):
                    return answer
                await asyncio.sleep(0.1)

    async def gone(self, path: str) -> None:
        """Returns once the object is not there any more."""
        await self.eventually(path, lambda answer: answer.status == 404)


class Watching:
    """An open watch, read line by line."""

    def __init__(self, client: Client, path: str, query: Mapping[str, Any], accept: str) -> None:
        headers = {"Accept": accept} if accept else {}
        params = {key: str(value) for key, value in query.items()}
        self._context = client.session.get(client.url + path, params=params, headers=headers)

    async def __aenter__(self) -> Self:
        self.response = await self._context.__aenter__()
        self.status = self.response.status
        return self

    async def __aexit__(self, *error: object) -> None:
        self.response.close()
        await self._context.__aexit__(None, None, None)

    async def next(self) -> Object:
        """The next line; EOFError when the watch has ended."""
        async with asyncio.timeout(WAIT_S):
            line = await self.response.content.readline()
        if not line:
            raise EOFError
        found: Object = json.loads(line)
        return found

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Type and object name of the next lines."""
        lines = [await self.next() for _ in range(count)]
        return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]

    async def rest(self) -> list[Object]:
        """Every line until the end."""
        lines = []
        try:
            while True:
                lines.append(await self.next())
        except EOFError:
            return lines


def volume(name: str = "", **spec: Any) -> Object:
    """A PersistentVolume; None removes a field."""
    whole = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": DRIVER, "volumeHandle": "handle"},
        **spec,
    }
    spec = {key: value for key, value in whole.items() if value is not None}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def claim(name: str = "", **spec: Any) -> Object:
    """A PersistentVolumeClaim; None removes a field."""
    whole = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    spec = {key: value for key, value in whole.items() if value is not None}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def attachment(name: str = "", **spec: Any) -> Object:
    """A VolumeAttachment."""
    spec = {"attacher": DRIVER, "nodeName": "node-1", "source": {"persistentVolumeName": "pv-1"}, **spec}
    return {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name}, "spec": spec}


def storage_class(name: str = "", **fields: Any) -> Object:
    """A StorageClass."""
    head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    return {**head, "provisioner": DRIVER, **fields}


def config_map(name: str = "", **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "", **spec: Any) -> Object:
    """A Pod with one container."""
    whole = {"containers": [{"name": "main", "image": "busybox:1"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


def with_meta(obj: Object, **metadata: Any) -> Object:
    """The object with more metadata."""
    return {**obj, "metadata": {**obj["metadata"], **metadata}}
