"""A sidecar that gets more than it can take, made small so that little is enough."""

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest

from mesh.agent.envoy import find
from mesh.agent.sds import write_secrets
from mesh.identity.ca import pem
from tests.intruders import Authority, Credentials
from tests.mesh.attacked import tunnel
from tests.mesh.load import OPTIONS
from tests.mesh.running import admin, eventually
from tests.unit.translate.scenarios import SCENARIOS

pytestmark = pytest.mark.envoy

Run = Callable[[dict[str, Any]], "Sidecar"]


class Sidecar:
    """A running Envoy, with nothing behind it."""

    def __init__(self, folder: Path, leaf: Credentials) -> None:
        self._leaf, self._folder = leaf, folder
        self._instance = {"envoy": {"admin": f"unix:{folder / 'admin.sock'}"}}

    def context(self, *alpn: str) -> ssl.SSLContext:
        """Of a caller that may."""
        return self._leaf.context(self._folder, alpn)

    def port(self, listener: str) -> int:
        statuses = admin(self._instance, "/listeners?format=json")["listener_statuses"]
        found = (one["local_address"]["socket_address"] for one in statuses if one["name"] == listener)
        return int(next(found)["port_value"])

    def count(self, name: str) -> int:
        found = admin(self._instance, f"/stats?format=json&filter=^{name}$")["stats"]
        return sum(one["value"] for one in found if "value" in one)

    def is_up(self) -> bool:
        try:
            return self.count("listener_manager.workers_started") == 1
        except OSError:
            return False

    def connect(self, listener: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port(listener)), timeout=10)

    def call(self) -> tuple[int, bytes]:
        """As the service itself."""
        with closing(HTTPConnection("127.0.0.1", self.port("outbound"), timeout=10)) as connection:
            connection.request("GET", "/", headers={"host": "nobody"})
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture
def run() -> Iterator[Run]:
    with ExitStack() as stack:

        def started(config: dict[str, Any]) -> Sidecar:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="proa-", dir="/tmp")))
            ca = Authority.foreign()
            leaf = ca.leaf("spiffe://proa.local/ns/shop/sa/web")
            write_secrets(folder / "sds", chain_pem=leaf.chain, key_pem=leaf.key, bundle_pem=pem(ca.certificate))
            (folder / "bootstrap.json").write_text(json.dumps(config))
            command = [str(find().path), "-c", "bootstrap.json", "--disable-hot-restart", "--concurrency", "1"]
            log = stack.enter_context((folder / "log").open("w+"))
            process = stack.enter_context(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
            stack.callback(process.kill)
            sidecar = Sidecar(folder, leaf)
            eventually(sidecar.is_up, 20, (folder / "log").read_text)
            return sidecar

        yield started


def alone(scenario: str = "http") -> dict[str, Any]:
    """A sidecar as it is made, but without a control plane, and at ports that are free."""
    config = SCENARIOS[scenario].static()
    for source in ("cds_config", "lds_config"):
        del config["dynamic_resources"][source]
    del config["cluster_manager"]
    config["layered_runtime"]["layers"].pop()
    resources = config["static_resources"]
    resources["clusters"] = [cluster for cluster in resources["clusters"] if cluster.get("type") != "EDS"]
    for listener in resources["listeners"]:
        listener["address"]["socket_address"]["port_value"] = 0
    return config


def monitor(config: dict[str, Any], name: str) -> dict[str, Any]:
    monitors = config["overload_manager"]["resource_monitors"]
    found: dict[str, Any] = next(one["typed_config"] for one in monitors if one["name"].endswith(name))
    return found


def test_a_flood_of_connections_does_not_touch_those_of_the_service(run: Run) -> None:
    config = alone()
    monitor(config, "global_downstream_max_connections")["max_active_downstream_connections"] = 3
    sidecar = run(config)

    with ExitStack() as held:
        flood = [held.enter_context(sidecar.connect("inbound/80")) for _ in range(10)]
        ended = [one for one in flood[3:] if one.recv(1) == b""]

        assert len(ended) == 7, "more than three are closed at once, and not when a handshake is due"
        assert sidecar.count("listener.inbound.downstream_global_cx_overflow") == 7
        own = [held.enter_context(sidecar.connect("outbound")) for _ in range(5)]
        for one in own:
            one.sendall(b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n")
            assert one.recv(64).startswith(b"HTTP/1.1 404 ")


def test_a_proxy_without_memory_refuses_callers_and_goes_on(run: Run) -> None:
    config = alone()
    monitor(config, "fixed_heap")["max_heap_size_bytes"] = 1 << 20
    # With this one, too, nobody hears why.
    actions = config["overload_manager"]["actions"]
    config["overload_manager"]["actions"] = [
        one for one in actions if not one["name"].endswith("accepting_connections")
    ]
    sidecar = run(config)

    for name in ("stop_accepting_requests", "disable_http_keepalive", "shrink_heap"):
        eventually(lambda name=name: sidecar.count(f"overload.envoy.overload_actions.{name}.active"))  # type: ignore[misc]

    with sidecar.connect("inbound/80") as plain, sidecar.context().wrap_socket(plain) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        answer = tls.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"overload" in answer
    assert sidecar.call()[0] == 404, "the service itself is not kept from calling others"


async def test_streams_that_fill_the_memory_are_ended(run: Run) -> None:
    """Calls with large messages to a service that does not read them."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        config = alone("grpc")
        monitor(config, "fixed_heap")["max_heap_size_bytes"] = 24 << 20
        (own,) = (one for one in config["static_resources"]["clusters"] if one["name"] == "app/8080")
        (locality,) = own["load_assignment"]["endpoints"]
        locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] = deaf.getsockname()[1]
        sidecar = run(config)

        async with tunnel(("127.0.0.1", sidecar.port("inbound/8080")), sidecar.context("h2")) as address:
            channels = [grpc.aio.insecure_channel(address, OPTIONS) for _ in range(10)]
            calls = [_call(one) for one in channels for _ in range(5)]
            ended = await asyncio.gather(*calls)
            await asyncio.gather(*(one.close() for one in channels))

        assert sidecar.count("envoy.overload_actions.reset_high_memory_stream.count") > 0
        assert grpc.StatusCode.INTERNAL in ended
        assert sidecar.is_up()


async def _call(channel: grpc.aio.Channel) -> grpc.StatusCode:
    method: Any = channel.unary_unary("/a.B/C")
    try:
        await method(bytes(3 << 20), timeout=15)
    except grpc.aio.AioRpcError as error:
        return error.code()
    raise AssertionError("nobody reads it, and somebody answers")


def test_a_proxy_with_memory_takes_calls(run: Run) -> None:
    sidecar = run(alone())

    assert sidecar.call()[0] == 404, "that of its routes"
    assert sidecar.count("overload.envoy.resource_monitors.fixed_heap.pressure") <= 5
