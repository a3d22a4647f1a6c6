"""What a real mesh says of its proxies: a refusal with the document behind it, strangers, and client status."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.snapshot.types import CLUSTER
from mesh.xds.services import AGGREGATED
from tests.mesh.running import ROOT, RunningMesh, eventually, taken

pytestmark = pytest.mark.envoy

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=ROOT / "build" / "bin")
ORDERS = "bookstore/orders/orders-0"
LISTENER = "upstream/inventory"


def test_a_refusal_names_the_proxy_envoys_words_and_the_document(mesh: RunningMesh) -> None:
    """The port of one of its listeners is taken while an Envoy is away."""
    entry = mesh.instance("orders")
    host, _, port = entry["envoy"]["upstreams"]["inventory"].partition(":")
    assert conditions(mesh, "orders")["Programmed"] == "True"
    os.kill(entry["envoy"]["pid"], signal.SIGKILL)
    with taken(host, int(port)):
        proxy = eventually(lambda: refusing(mesh), 30)
        where = document(mesh, "orders")["status"]["where"]

        [refused] = listeners(proxy)["refused"]
        assert refused["name"] == LISTENER
        assert "Address already in use" in refused["error"]
        assert [origin["where"] for origin in refused["documents"]] == [where]
        table = mesh.proa("proxy-status").stdout
        assert f"{ORDERS} refuses Listener {LISTENER} and has none: " in table
        assert f"  it comes from Workload/bookstore/orders ({where})" in table
        assert conditions(mesh, "orders")["Programmed"] == "False"
        described = mesh.proa("describe", "workload", "orders").stdout
        assert f"Programmed: no, Refused: {ORDERS}: Listener {LISTENER}: " in described
        assert conditions(mesh, "catalog")["Programmed"] == "True", "it has no part in that"
    mesh.remember()


def refusing(mesh: RunningMesh) -> dict[str, Any] | None:
    proxy = mesh.proxies()[ORDERS]
    return proxy if proxy["state"] == "NACKED" and listeners(proxy)["refused"] else None


def listeners(proxy: dict[str, Any]) -> dict[str, Any]:
    [found] = [one for one in proxy["types"] if one["typeUrl"].endswith(".Listener")] or [{"refused": []}]
    return found


def document(mesh: RunningMesh, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.proa("get", "workload", name, "-o", "json").stdout)
    return found


def conditions(mesh: RunningMesh, name: str) -> dict[str, str]:
    return {one["type"]: one["status"] for one in document(mesh, name)["status"]["conditions"]}


async def test_who_asks_for_somebody_elses_configuration_is_refused_and_counted(mesh: RunningMesh) -> None:
    xds = mesh.file["control_plane"]["xds"]
    options = [("grpc.ssl_target_name_override", "control-plane.proa")]
    async with grpc.aio.secure_channel(xds, credentials_of(mesh, "catalog"), options) as channel:
        call = channel.stream_stream(f"/{AGGREGATED.name}/{AGGREGATED.delta}")()
        request = DeltaDiscoveryRequest(node=base_pb2.Node(id=ORDERS), type_url=CLUSTER)
        await call.write(request.SerializeToString())
        async with asyncio.timeout(10):
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED

    shown = await asyncio.to_thread(mesh.proa, "proxy-status")
    assert "1 stream refused (identity), the last " in shown.stdout
    assert f"{ORDERS}: its certificate says spiffe://proa.local/ns/bookstore/sa/catalog" in shown.stdout
    printed = json.loads((await asyncio.to_thread(mesh.proa, "proxy-status", "-o", "json")).stdout)
    assert [(one["reason"], one["count"]) for one in printed["refusedStreams"]] == [("identity", 1)]


def credentials_of(mesh: RunningMesh, workload: str) -> grpc.ChannelCredentials:
    """What the Envoy of a workload shows."""
    secrets = mesh.state.folder / "instances" / f"bookstore.{workload}-0" / "sds" / "current"
    leaf = only_resource(secrets / "id.json")["tls_certificate"]
    roots = only_resource(secrets / "roots.json")["validation_context"]["trusted_ca"]
    return grpc.ssl_channel_credentials(*map(content, (roots, leaf["private_key"], leaf["certificate_chain"])))


def only_resource(path: Path) -> dict[str, Any]:
    [found] = json.loads(path.read_text())["resources"]
    resource: dict[str, Any] = found
    return resource


def content(source: dict[str, str]) -> bytes:
    return source["inline_string"].encode()


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_client_status_answers_grpcurl(shared: RunningMesh) -> None:
    socket_path = shared.file["control_plane"]["address"].removeprefix("unix:")
    method = "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    matcher = {"node_matchers": [{"node_id": {"exact": ORDERS}}]}
    eventually(lambda: {proxy["state"] for proxy in shared.proxies().values()} == {"SYNCED"})

    done = subprocess.run(
        [str(GRPCURL), "-plaintext", "-unix", "-d", json.dumps(matcher), socket_path, method],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    [client] = json.loads(done.stdout)["config"]
    configs = {(one["type_url"].rpartition(".")[2], one["name"]): one for one in client["generic_xds_configs"]}
    assert client["node"]["id"] == ORDERS
    assert {one["config_status"] for one in configs.values()} == {"SYNCED"}
    assert {one["client_status"] for one in configs.values()} == {"ACKED"}
    assert configs["Cluster", "bookstore/catalog/50051"]["xds_config"]["lb_policy"] == "LEAST_REQUEST"
    assert ("ClusterLoadAssignment", "bookstore/catalog/50051") in configs
    assert ("Listener", LISTENER) in configs
