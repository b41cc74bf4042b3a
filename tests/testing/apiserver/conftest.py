"""A running server and a small client that shows answers as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest

from csisidecar.testing.apiserver import FakeAPIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CORE = "/api/v1"
STORAGE = "/apis/storage.k8s.io/v1"


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str]
    text: str

    def __getitem__(self, key: str) -> Any:
        return self.body[key]

    @property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["metadata"]
        return found


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
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        **query: Any,
    ) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": content_type, **(headers or {})} if data is not None else dict(headers or {})
        shown = {key.rstrip("_"): str(value) for key, value in query.items()}
        async with self.session.request(method, self.url + path, data=data, headers=sent, params=shown) as response:
            text = await response.text()
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            return Answer(response.status, found, dict(response.headers), text)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.request("GET", path, **query)

    async def post(self, path: str, body: Any, **query: Any) -> Answer:
        return await self.request("POST", path, body, **query)

    async def put(self, path: str, body: Any, **query: Any) -> Answer:
        return await self.request("PUT", path, body, **query)

    async def delete(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.request("DELETE", path, body, **query)

    async def merge(self, path: str, body: Any, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/merge-patch+json", **query)

    async def json_patch(self, path: str, body: Any, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/json-patch+json", **query)

    async def strategic(self, path: str, body: Any, **query: Any) -> Answer:
        return await self.request("PATCH", path, body, content_type="application/strategic-merge-patch+json", **query)

    async def apply(self, path: str, body: Any, *, manager: str = "me", **query: Any) -> Answer:
        return await self.request(
            "PATCH", path, body, content_type="application/apply-patch+yaml", fieldManager=manager, **query
        )

    def watch(self, path: str, **query: Any) -> Watching:
        return Watching(self, path, {"watch": "1", **query})


class Watching:
    """An open watch, read line by line."""

    def __init__(self, client: Client, path: str, query: dict[str, Any]) -> None:
        self._context = client.session.get(client.url + path, params={key: str(value) for key, value in query.items()})

    async def __aenter__(self) -> Self:
        self.response = await self._context.__aenter__()
        self.status = self.response.status
        return self

    async def __aexit__(self, *error: object) -> None:
        self.response.close()
        await self._context.__aexit__(None, None, None)

    async def next(self) -> dict[str, Any]:
        """The next line; EOFError when the watch has ended."""
        line = await self.response.content.readline()
        if not line:
            raise EOFError
        found: dict[str, Any] = json.loads(line)
        return found

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Type and object name of the next lines."""
        lines = [await self.next() for _ in range(count)]
        return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]

    async def rest(self) -> list[dict[str, Any]]:
        """Every line until the end."""
        lines = []
        try:
            while True:
                lines.append(await self.next())
        except EOFError:
            return lines


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(read_bufsize=2**22) as made:
        yield made


@pytest.fixture
async def api() -> AsyncIterator[FakeAPIServer]:
    async with FakeAPIServer(bookmark_interval_s=0.2) as server:
        yield server


@pytest.fixture
def client(api: FakeAPIServer, session: aiohttp.ClientSession) -> Client:
    return Client(api.url, session)


def volume(name: str = "pv-1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d.example.com", "volumeHandle": f"h-{name}"},
            **spec,
        },
    }


def claim(name: str = "c-1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec},
    }


def attachment(name: str = "va-1", pv: str = "pv-1") -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": {"attacher": "d.example.com", "nodeName": "n-1", "source": {"persistentVolumeName": pv}},
    }


def storage_class(name: str = "fast", *, default: bool = False, **more: Any) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": "d.example.com",
        **more,
    }
