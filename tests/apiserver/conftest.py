"""One suite, two servers: the embedded one always, a real kube-apiserver where KUBEBUILDER_ASSETS names one.

Every test gets a namespace of its own and names that nobody else uses, so that one real server serves all of them.
The real one is started once, with a token for everything, when the first test needs it.
"""

from __future__ import annotations

import ssl
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
import yaml

from csisidecar.testing import FakeAPIServer, KindSpec
from csisidecar.testing.apiserver.kinds import Column
from tests.apiserver.client import CORE, STORAGE, Answer, Client, config_map
from tests.envtest.control_plane import ControlPlane, control_plane, why_not

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REAL_FLAGS = (
    # The gate that lets a claim name a source in another namespace; the embedded server has it on.
    "--feature-gates=CrossNamespaceVolumeDataSource=true",
    # ConfigMaps are read from etcd itself, so that compaction shows at once; other kinds go through the watch cache.
    "--watch-cache-sizes=configmaps#0",
)
WIDGETS = KindSpec(
    group="example.com",
    version="v1",
    plural="widgets",
    kind="Widget",
    status=True,
    short_names=("wd",),
    columns=(Column(name="Size", path="spec.size", type="integer"),),
)


@dataclass
class Server:
    """The server under test, and a corner of it that no other test uses."""

    client: Client
    is_real: bool
    unique: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    embedded: FakeAPIServer | None = None
    etcd_url: str = ""

    @property
    def space(self) -> str:
        """URL of this test's namespace."""
        return f"{CORE}/namespaces/{self.unique}"

    @property
    def claims(self) -> str:
        return f"{self.space}/persistentvolumeclaims"

    @property
    def maps(self) -> str:
        return f"{self.space}/configmaps"

    @property
    def pods(self) -> str:
        return f"{self.space}/pods"

    @property
    def leases(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.unique}/leases"

    @property
    def capacities(self) -> str:
        return f"{STORAGE}/namespaces/{self.unique}/csistoragecapacities"

    @property
    def widgets(self) -> str:
        return f"/apis/example.com/v1/namespaces/{self.unique}/widgets"

    def name(self, suffix: str = "x") -> str:
        """A name for an object outside of namespaces."""
        return f"{self.unique}-{suffix}"

    async def fill(self, count: int) -> list[Answer]:
        """As many ConfigMaps, named m0, m1, ..."""
        return [await self.client.post(self.maps, config_map(f"m{number}")) for number in range(count)]

    async def compact(self) -> None:
        """Forget all history but the present state."""
        if self.embedded is not None:
            self.embedded.compact()
            return
        revision = (await self.client.get(self.maps)).revision
        async with self.client.session.post(
            f"{self.etcd_url}/v3/kv/compaction", json={"revision": revision, "physical": True}
        ) as answer:
            assert answer.status == 200, await answer.text()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """The real control plane; skips, saying why, where there is none."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    async with control_plane(tmp_path_factory.mktemp("real"), flags=REAL_FLAGS) as started:
        yield started


@pytest.fixture(params=["embedded", "real"])
def place(request: pytest.FixtureRequest) -> ControlPlane | None:
    """None is the embedded server."""
    if request.param == "embedded":
        return None
    found: ControlPlane = request.getfixturevalue("plane")
    return found


@pytest.fixture
async def server(place: ControlPlane | None) -> AsyncIterator[Server]:
    """Each of the two, with an empty namespace."""
    async with AsyncExitStack() as stack:
        if place is None:
            embedded = await stack.enter_async_context(
                FakeAPIServer(
                    bookmark_interval_s=0.2, kinds=[WIDGETS], feature_gates=["CrossNamespaceVolumeDataSource"]
                )
            )
            session = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=2**22))
            made = Server(Client(embedded.url, session), is_real=False, embedded=embedded)
        else:
            tls = ssl.create_default_context(cafile=str(place.ca_file))
            token = yaml.safe_load(place.kubeconfig.read_text())["users"][0]["user"]["token"]
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                headers={"Authorization": f"Bearer {token}"},
                read_bufsize=2**22,
            )
            await stack.enter_async_context(session)
            made = Server(Client(place.url, session), is_real=True, etcd_url=place.etcd_url)
        (await made.client.post(f"{CORE}/namespaces", {"metadata": {"name": made.unique}})).ok(201)
        yield made


@pytest.fixture
def client(server: Server) -> Client:
    """Its client."""
    return server.client


@pytest.fixture
async def widgets(server: Server) -> str:
    """URL of a kind of our own, declared on either server."""
    if server.is_real:
        await _declare_widgets(server.client)
    return server.widgets


async def _declare_widgets(client: Client) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    version = {
        "name": WIDGETS.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    names = {"plural": WIDGETS.plural, "kind": WIDGETS.kind, "shortNames": list(WIDGETS.short_names)}
    spec = {"group": WIDGETS.group, "scope": "Namespaced", "names": names, "versions": [version]}
    await client.post(definitions, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
    await client.eventually("/apis/example.com/v1", lambda answer: answer.status == 200 and bool(answer["resources"]))
    await client.eventually("/apis/example.com/v1/widgets", lambda answer: answer.status == 200)
