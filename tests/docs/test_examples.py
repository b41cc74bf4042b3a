"""The examples: they run as a stranger would run them, and the manifests fit together."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from csisidecar.cli.rbac import ROLES
from csisidecar.cli.rbac_page import SHAPES
from csisidecar.clock import SystemClock
from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.stage import build_sidecar
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from csisidecar.testing.driver.serve import DriverOptions
from tests.docs.places import ROOT, blocks

pytestmark = [pytest.mark.whole, pytest.mark.timeout(120)]

EXAMPLES = ROOT / "examples"
DEPLOYMENT = EXAMPLES / "deployment"
STORY = re.compile(
    r"claim embed-example made\n"
    r"claim is Bound to 1Gi, volume-of-pvc-[0-9a-f-]{36}\n"
    r"the driver has 1 volume\n"
    r"claim deleted, the driver has 0 volumes\n"
)


async def run_example(*words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "embed.py"),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_embed_tells_its_story_without_a_cluster() -> None:
    code, out, err = await run_example()
    assert (code, err) == (0, "")
    assert STORY.fullmatch(out)


async def test_embed_tells_on_one_line_what_it_cannot_use() -> None:
    code, out, err = await run_example("--kubeconfig", "/nope")
    assert (code, out) == (1, "")
    assert err.startswith("embed.py: --kubeconfig=/nope does not exist")
    assert len(err.splitlines()) == 1


async def test_the_objects_of_the_readme_become_a_bound_claim(tmp_path: Path) -> None:
    (text,) = blocks("README.md", "yaml")
    kubeconfig = tmp_path / "kubeconfig"
    driver = FakeDriver(DriverOptions(endpoint="/csi.sock").to_settings())
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock") as endpoint:
        server.write_kubeconfig(kubeconfig)
        for obj in yaml.safe_load_all(text):
            server.objects.create(obj)

        async def settled() -> None:
            while True:
                claim = server.objects.get("persistentvolumeclaims", "data", "default") or {}
                if claim["status"]["phase"] == "Bound" and any(
                    (it.get("status") or {}).get("attached") for it in server.objects.list("volumeattachments")
                ):
                    return
                await asyncio.sleep(0.1)

        sidecar = build_sidecar(kubeconfig, endpoint, SystemClock())
        controllers = serve_controllers(ControllersOptions(kubeconfig=str(kubeconfig)))
        async with background(controllers, name="controllers"), background(sidecar.run(), name="sidecar"):
            await asyncio.wait_for(settled(), 30)
            sidecar.stop()


async def test_embed_cleans_up_behind_itself_on_a_cluster(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    async with FakeAPIServer() as server:
        server.write_kubeconfig(kubeconfig)
        controllers = serve_controllers(ControllersOptions(kubeconfig=str(kubeconfig)))
        async with background(controllers, name="controllers"):
            code, out, err = await run_example("--kubeconfig", str(kubeconfig))
        left = [server.objects.count(f"{kind}s") for kind in ("persistentvolume", "persistentvolumeclaim", "lease")]
        assert left == [0, 0, 0]
        assert server.objects.list("storageclasses") == []
    assert (code, err) == (0, "")
    assert STORY.fullmatch(out)


@pytest.mark.parametrize("file", ["embed.py", "plugin/volume_labels.py"])
def test_examples_are_typed(file: str) -> None:
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", f"examples/{file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("examples/")] == []


# ---- manifests


def load(name: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all((DEPLOYMENT / name).read_text()) if item]


def pod_of(name: str) -> dict[str, Any]:
    (found,) = [item for item in load(name) if item["kind"] in ("StatefulSet", "Deployment", "DaemonSet")]
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in pod["containers"] if item["name"] == name]
    return dict(found)


MANIFESTS = [shape.manifest for shape in SHAPES]


def beside(manifest: str, name: str) -> str:
    return str(Path(manifest).with_name(name))


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_arguments_of_the_container_are_understood_without_a_warning(manifest: str) -> None:
    ours = container(pod_of(manifest), "csisidecar")
    variables = {item["name"]: "some" for item in ours["env"]}
    command = [
        sys.executable,
        "-m",
        "csisidecar",
        *ours["args"],
        "--kubeconfig=/nowhere",
        "--http-endpoint=127.0.0.1:0",
    ]
    env = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"} | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert "--kubeconfig=/nowhere does not exist" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("W")]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_pod_runs_as_the_account_that_has_the_roles(manifest: str) -> None:
    roles = load(beside(manifest, "rbac.yaml"))
    (namespace,) = [item["metadata"]["name"] for item in load(manifest) if item["kind"] == "Namespace"]
    bindings = [item for item in roles if item["kind"].endswith("Binding")]
    subjects = [subject for item in bindings for subject in item["subjects"]]
    assert {(s["kind"], s["namespace"], s["name"]) for s in subjects} == {
        ("ServiceAccount", namespace, pod_of(manifest)["serviceAccountName"])
    }
    assert {item["roleRef"]["name"] for item in bindings} == {
        item["metadata"]["name"] for item in roles if item["kind"] in ("Role", "ClusterRole")
    }


def test_no_two_deployments_share_a_role() -> None:
    names = [
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        for manifest in MANIFESTS
        for item in load(beside(manifest, "rbac.yaml"))
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_containers_share_the_socket_and_probes_ask_what_is_served(manifest: str) -> None:
    pod = pod_of(manifest)
    ours = container(pod, "csisidecar")
    mounts = {item["name"]: {m["name"]: m["mountPath"] for m in item["volumeMounts"]} for item in pod["containers"]}
    assert {names["socket"] for names in mounts.values()} == {"/csi"}
    assert {name for names in mounts.values() for name in names} == {volume["name"] for volume in pod["volumes"]}
    assert [ours[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")] == ["/readyz", "/healthz"]
    assert {"name": "metrics", "containerPort": 8080} in ours["ports"]
    assert ours["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_image_is_named_in_the_kustomization(manifest: str) -> None:
    (kustomization,) = load(beside(manifest, "kustomization.yaml"))
    images = {item["image"] for item in pod_of(manifest)["containers"]}
    assert images == {item["name"] for item in kustomization["images"]}
    assert set(kustomization["resources"]) == {Path(manifest).name, "rbac.yaml"}


@pytest.mark.parametrize("manifest", [each for each in MANIFESTS if "/" in each])
def test_where_room_is_published_the_scheduler_reads_it(manifest: str) -> None:
    items = {item["kind"]: item for item in load(manifest)}
    assert items["CSIDriver"]["spec"]["storageCapacity"] is True
    assert items["StorageClass"]["volumeBindingMode"] == "WaitForFirstConsumer"
    assert items["StorageClass"]["provisioner"] == items["CSIDriver"]["metadata"]["name"]


def test_the_examples_page_tells_when_each_role_is_needed() -> None:
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"| `{role.name}` |" in page for role in ROLES)


def test_swap_changes_two_images_and_nothing_else() -> None:
    pod = pod_of("swap/images.yaml")
    assert [set(item) for item in pod["containers"]] == [{"name", "image"}] * 2
    assert [item["name"] for item in pod["containers"]] == ["csi-attacher", "csi-provisioner"]
    targets = re.findall(r"^FROM \w+ AS (\w+)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert {"attacher", "provisioner"} <= set(targets)
