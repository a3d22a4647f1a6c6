"""What can be seen of a running mesh, and what it keeps to itself."""

import json
import re
import stat
from collections.abc import Callable
from typing import Any, Final

import grpc
import psutil
import pytest
import yaml
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

import mesh.translate.bootstrap
import mesh.translate.resources  # noqa: F401 # what they pack into messages must be known to be read
from mesh.api.envoy.config.bootstrap.v3 import bootstrap_pb2
from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import extension_pb2
from mesh.api.envoy.config.endpoint.v3 import endpoint_pb2
from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.config.route.v3 import route_pb2
from tests.mesh.running import BOOKSTORE, RunningMesh, admin, eventually, proa

pytestmark = pytest.mark.envoy

ORDERS = "bookstore/orders/orders-0"


def test_proxy_status_lists_each_proxy(shared: RunningMesh) -> None:
    eventually(lambda: {proxy["state"] for proxy in shared.proxies().values()} == {"SYNCED"})
    header, *rows = shared.proa("proxy-status").stdout.splitlines()

    assert header.split()[:6] == ["PROXY", "IDENTITY", "ENVOY", "STATE", "SINCE", "CONFIG"]
    assert [row.split()[:4] for row in rows] == [
        [f"bookstore/{name}/{name}-0", f"spiffe://proa.local/ns/bookstore/sa/{name}", "1.40.0", "SYNCED"]
        for name in ("catalog", "inventory", "orders")
    ]
    assert all(re.search(r" \S+ ago +[0-9a-f]{16} +-$", row) for row in rows)


def test_proxy_status_has_everything_as_json(shared: RunningMesh) -> None:
    orders = eventually(lambda: one if (one := shared.proxies()[ORDERS])["state"] == "SYNCED" else None)
    types = {one["typeUrl"].rpartition(".")[2]: one for one in orders["types"]}

    assert {"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"} <= types.keys()
    assert types["Listener"]["resources"] == 4
    assert all(one["sent"] == one["acked"] for one in types.values())
    assert orders["lastNack"] == ""


@pytest.mark.parametrize("kind", ["Workload", "workload", "WORKLOADS"])
def test_get_knows_kinds_in_any_spelling(shared: RunningMesh, kind: str) -> None:
    lines = shared.proa("get", kind, "-n", "bookstore").stdout.splitlines()

    assert [line.split()[2] for line in lines[1:]] == ["catalog", "inventory", "orders"]


def test_a_document_is_shown_as_it_was_written(shared: RunningMesh) -> None:
    as_json = json.loads(shared.proa("get", "workload", "orders", "-o", "json").stdout)
    as_yaml = yaml.safe_load(shared.proa("get", "workload", "orders", "-o", "yaml").stdout)
    described = shared.proa("describe", "workload", "orders").stdout

    assert as_json == as_yaml
    assert as_json["spec"]["upstreams"][0] == {"service": "catalog", "port": 50051, "env": "CATALOG_ADDR"}
    assert as_json["status"]["from"] == "file"
    assert re.fullmatch(r".*mesh\.yaml:\d+", as_json["status"]["where"])
    assert "Accepted: yes" in described
    assert "env: CATALOG_ADDR" in described


def test_what_is_not_there_is_said_so(shared: RunningMesh) -> None:
    missing = shared.proa("get", "workload", "order")
    unknown = shared.proa("get", "worklod")

    assert (missing.returncode, unknown.returncode) == (1, 2)
    assert missing.stderr.startswith("error: workload/order: there is no such document. ")
    assert "Did you mean Workload?" in unknown.stderr


async def test_the_control_api_has_health(shared: RunningMesh) -> None:
    async with grpc.aio.insecure_channel(shared.file["control_plane"]["address"]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_command_finds_the_mesh_by_its_address_too(shared: RunningMesh) -> None:
    address = shared.file["control_plane"]["address"]

    assert proa("get", "workloads", "--server", address).returncode == 0
    assert "serving" in proa("logs", "orders", "--server", address).stdout
    both = proa("get", "workloads", "--server", address, "--state", str(shared.state.folder))
    assert (both.returncode, both.stderr.startswith("error: --server: both")) == (2, True)


def test_logs_are_those_of_the_part_that_is_named(shared: RunningMesh) -> None:
    agent = shared.proa("logs", "orders", "--agent").stdout
    control_plane = shared.proa("logs", "control-plane", "--tail", "1000").stdout

    assert "service_started" in agent
    assert len(shared.proa("logs", "orders", "--agent", "--tail", "1").stdout.splitlines()) == 1
    assert "attached node=bookstore/orders/orders-0" in control_plane
    assert shared.proa("logs", "order").stderr.startswith(
        "error: order: there is no such log. Logs: bookstore/catalog-0"
    )


def test_everything_is_for_its_owner_alone(shared: RunningMesh) -> None:
    shown = [path for folder in (shared.state.folder, shared.state.run) for path in [folder, *folder.rglob("*")]]
    private = [path for path in shown if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]

    # What a service itself writes is its own business, and in a folder that is for its owner alone.
    assert [path for path in private if shared.state.folder / "workloads" not in path.parents] == []
    assert stat.S_IMODE(shared.state.mesh_file.stat().st_mode) == 0o600


def test_every_port_is_on_loopback(shared: RunningMesh) -> None:
    listening = [
        connection.laddr.ip
        for process in psutil.Process(shared.process.pid).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3 * 3 + 2 + 1
    # The second is the same address, on a socket that could do IPv6.
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}


@pytest.mark.parametrize("name", ["catalog", "orders"])
def test_render_prints_what_the_running_proxy_has(shared: RunningMesh, name: str) -> None:
    done = proa("render", "-f", str(BOOKSTORE), "--proxy", name, "--state", str(shared.state.folder))
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)

    running = loaded_config(shared.instance(name))

    for kind, message in MESSAGES.items():
        expected = by_name(ParseDict(one, message()) for one in printed[kind])
        assert running[kind].keys() == expected.keys()
        for key, value in expected.items():
            assert running[kind][key] == value, f"{kind} {key}"
    bootstrap = (shared.state.folder / "instances" / f"bookstore.{name}-0" / "bootstrap.json").read_text()
    assert ParseDict(json.loads(bootstrap), bootstrap_pb2.Bootstrap()) == ParseDict(
        printed["bootstrap"], bootstrap_pb2.Bootstrap()
    )


def test_render_without_a_state_knows_no_addresses() -> None:
    done = proa("render", "-f", str(BOOKSTORE), "--proxy", "bookstore/orders/orders-0")
    ports = set(re.findall(r'"port_value": (\d+)', done.stdout))

    assert (done.returncode, ports) == (0, {"0"})
    assert proa("render", "-f", str(BOOKSTORE), "--proxy", "order").stderr == (
        "error: order: there is no such proxy. Did you mean orders?\n"
    )


MESSAGES: Final[dict[str, Callable[[], Any]]] = {
    "clusters": cluster_pb2.Cluster,
    "endpoints": endpoint_pb2.ClusterLoadAssignment,
    "listeners": listener_pb2.Listener,
    "routes": route_pb2.RouteConfiguration,
    "extensions": extension_pb2.TypedExtensionConfig,
}


def loaded_config(instance: dict[str, Any]) -> dict[str, dict[str, Message]]:
    """What an Envoy says it has by xDS, by kind and name."""
    parts: dict[str, dict[str, Any]] = {}
    for config in admin(instance, "/config_dump?include_eds")["configs"]:
        parts.setdefault(config["@type"].rpartition(".")[2], {}).update(config)
    # Static ones are those of the bootstrap; that for the own zone comes by EDS all the same.
    lists = (
        parts["EndpointsConfigDump"]["dynamic_endpoint_configs"],
        parts["EndpointsConfigDump"]["static_endpoint_configs"],
    )
    endpoints = [one["endpoint_config"] for each in lists for one in each]
    found = {
        "clusters": [one["cluster"] for one in parts["ClustersConfigDump"]["dynamic_active_clusters"]],
        "endpoints": [one for one in endpoints if one["cluster_name"].startswith("bookstore/")],
        "listeners": [one["active_state"]["listener"] for one in parts["ListenersConfigDump"]["dynamic_listeners"]],
        "routes": [one["route_config"] for one in parts["RoutesConfigDump"]["dynamic_route_configs"]],
        "extensions": [one["ecds_filter"] for one in parts["EcdsConfigDump"]["ecds_filters"]],
    }
    loaded = {kind: by_name(parsed(one, MESSAGES[kind]()) for one in found[kind]) for kind in found}
    for assignment in loaded["endpoints"].values():
        without_defaults(assignment)
    return loaded


def without_defaults(assignment: Any) -> None:
    """Envoy dumps the endpoints that it has, not the message that it got: what was not said has its default."""
    assert assignment.policy.overprovisioning_factor.value == 140
    assignment.ClearField("policy")
    for endpoint in (one for group in assignment.endpoints for one in group.lb_endpoints):
        assert endpoint.load_balancing_weight.value == 1
        endpoint.ClearField("load_balancing_weight")
        endpoint.endpoint.ClearField("health_check_config")


def parsed(dumped: dict[str, Any], message: Message) -> Message:
    return ParseDict({key: value for key, value in dumped.items() if key != "@type"}, message)


def by_name(messages: Any) -> dict[str, Message]:
    return {getattr(one, "name", "") or one.cluster_name: one for one in messages}
