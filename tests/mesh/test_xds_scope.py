"""A real mesh in which something happens that is none of its proxies' business."""

import json
from typing import Any

import pytest

from tests.mesh.running import RunningMesh, documents, eventually, workload

pytestmark = pytest.mark.envoy

NEWS = workload(
    "news",
    command=["sleep", "1000"],
    health={"type": "none"},
    ports=[{"name": "tcp", "port": 80, "appProtocol": "tcp"}],
)
POLICY = {
    "apiVersion": "proa.mesh/v1alpha1",
    "kind": "BackendTrafficPolicy",
    "metadata": {"name": "retry", "namespace": "test"},
    "spec": {"targetRefs": [{"kind": "Service", "name": "news"}], "retry": {"numRetries": 1}},
}


def sent(mesh: RunningMesh) -> dict[str, tuple[Any, ...]]:
    """What the proxies of the bookstore were sent on the streams that they have."""
    return {
        name: (proxy["state"], proxy["connectedSince"], proxy["bytesSent"], proxy["resourcesSent"])
        for name, proxy in mesh.proxies().items()
        if name.startswith("bookstore/")
    }


def test_another_namespace_costs_a_proxy_nothing(shared: RunningMesh) -> None:
    mesh = shared
    eventually(lambda: {state for state, *_ in sent(mesh).values()} == {"SYNCED"})
    before = sent(mesh)

    applied = mesh.proa("apply", "-f", "-", text=documents(NEWS, POLICY))
    assert applied.returncode == 0, applied.stderr
    eventually(lambda: [one["instance"] for one in mesh.instances("news")] == ["news-0"])
    assert mesh.proa("scale", "news", "2").returncode == 0
    mesh.remember()
    proxies = mesh.proxies()
    assert proxies["test/news/news-1"]["resourcesSent"] > 0
    assert mesh.proa("delete", "backendtrafficpolicy", "retry", "-n", "test").returncode == 0
    assert mesh.proa("delete", "workload", "news", "-n", "test").returncode == 0
    eventually(lambda: not mesh.instances("news"))

    assert sent(mesh) == before
    assert json.loads(mesh.proa("get", "workloads", "-n", "test", "-o", "json").stdout) == {"items": []}
