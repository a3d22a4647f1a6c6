"""The raw seam: what is set through the API is what clients are told, and nothing else."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.errors import UsageError
from mesh.model.address import Address
from mesh.model.workload import Locality
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.xds.raw import RawStore
from tests.mesh.running import PROA, ROOT
from tests.xds.conformance.client import Connection, Variant
from tests.xds.raw import Raw, a_resource, serving

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=ROOT / "build" / "bin")
DELTA, SOTW = Variant(delta=True, aggregated=True), Variant(delta=False, aggregated=True)
SECONDS = 30

both_variants = pytest.mark.parametrize("variant", [DELTA, SOTW], ids=str)


@both_variants
async def test_what_is_set_for_every_node_is_told_to_each_and_a_nodes_own_goes_before(
    raw: Raw, variant: Variant
) -> None:
    await raw.put(CLUSTER, {"a": "of all", "b": "of all"})
    await raw.put(CLUSTER, {"a": "its own"}, node_id="special")
    async with Connection(raw.xds, variant, CLUSTER, "special") as one, Connection(raw.xds, variant, CLUSTER) as two:
        special, other = one.client(CLUSTER), two.client(CLUSTER)
        for client in (special, other):
            await client.ask()
            await client.has_heard(1)

        assert special.held == {"a": "its own", "b": "of all"}
        assert other.held == {"a": "of all", "b": "of all"}

        await raw.remove(CLUSTER, "a", node_id="special")
        await special.has_heard(2)
        assert special.held == {"a": "of all", "b": "of all"}


def test_a_version_that_was_chosen_for_every_node_is_none_of_what_a_node_has_besides() -> None:
    store = RawStore()
    store.set("*", [Resource("a", CLUSTER, b"", "1")], {CLUSTER: "mine"})
    store.set("special", [Resource("b", CLUSTER, b"", "1"), Resource("l", LISTENER, b"", "1")])

    assert store.state("other", Locality()).versions == {CLUSTER: "mine"}
    assert store.state("special", Locality()).versions == {}

    store.remove("special", CLUSTER, ["b"])
    assert store.state("special", Locality()).versions == {CLUSTER: "mine"}


@both_variants
async def test_all_of_one_call_comes_in_one_response(raw: Raw, variant: Variant) -> None:
    await raw.put(CLUSTER, {"a": "1"})
    async with Connection(raw.xds, variant, CLUSTER) as connection:
        client = connection.client(CLUSTER)
        await client.ask()
        await client.has_heard(1)

        await raw.put(CLUSTER, {"b": "1", "c": "1"}, replaced=[CLUSTER])
        await client.has_heard(2)
        assert client.held == {"a": "1", "b": "1", "c": "1"}
        await client.has_heard(3)  # what is no more goes last
        assert client.held == {"b": "1", "c": "1"}


async def test_a_version_that_nobody_chooses_is_a_digest_of_the_bytes(raw: Raw) -> None:
    def content(value: bytes) -> raw_xds_pb2.RawXdsSetRequest:
        resource = raw_xds_pb2.RawResource(name="a", resource=AnyMessage(type_url=CLUSTER, value=value))
        return raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[resource])

    await raw.stub.Set(content(b"one"))
    one = version_in(raw.store)
    await raw.stub.Set(content(b"two"))
    two = version_in(raw.store)
    await raw.stub.Set(content(b"one"))

    assert one != two
    assert version_in(raw.store) == one


def version_in(store: RawStore) -> str:
    return store.state("any", Locality()).of(CLUSTER)["a"].version


async def test_clearing_forgets_a_node_or_everything(raw: Raw) -> None:
    await raw.put(CLUSTER, {"a": "1"})
    await raw.put(ROUTE, {"r": "1"}, node_id="special")

    await raw.clear("special")
    assert raw.store.state("special", Locality()).resources.keys() == {CLUSTER}
    await raw.put(ROUTE, {"r": "1"}, node_id="special")
    await raw.clear()
    assert raw.store.state("special", Locality()).resources == {}
    assert raw.store.version("special") == ""


async def test_a_ttl_is_kept(raw: Raw) -> None:
    resource = a_resource(CLUSTER, "a", "1")
    resource.ttl.CopyFrom(Duration(seconds=5))
    await raw.stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[resource]))

    ttl = raw.store.state("any", Locality()).of(CLUSTER)["a"].ttl
    assert ttl is not None
    assert ttl.total_seconds() == 5


def test_a_change_wakes_those_that_it_may_concern_and_no_change_wakes_nobody() -> None:
    store, woken = RawStore(), []
    with (
        store.watch("a", Locality(), lambda: woken.append("a")),
        store.watch("b", Locality(), lambda: woken.append("b")),
    ):
        store.set("a", [])
        assert woken == []
        store.set("a", [], {CLUSTER: "1"})
        assert woken == ["a"]
        store.set("*", [], {LISTENER: "1"})
        assert woken == ["a", "a", "b"]
        store.clear("nobody")
        store.remove("a", ENDPOINT, ["x"])
        assert woken == ["a", "a", "b"]
    store.clear()
    assert woken == ["a", "a", "b"]


NOTHING = raw_xds_pb2.RawResource()
TYPELESS = raw_xds_pb2.RawResource(name="a")
A = a_resource(CLUSTER, "a", "1")
ENDLESS = raw_xds_pb2.RawResource(name="a", resource=AnyMessage(type_url=CLUSTER), ttl=Duration())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param(raw_xds_pb2.RawXdsSetRequest(), "node_id: it is empty", id="set for nobody"),
        pytest.param(raw_xds_pb2.RawXdsSetRequest(node_id="n", resources=[NOTHING]), "resources.name", id="no name"),
        pytest.param(raw_xds_pb2.RawXdsSetRequest(node_id="n", resources=[TYPELESS]), "type_url", id="no type"),
        pytest.param(raw_xds_pb2.RawXdsSetRequest(node_id="n", resources=[A, A]), "it is there twice", id="twice"),
        pytest.param(raw_xds_pb2.RawXdsSetRequest(node_id="n", resources=[ENDLESS]), "its ttl is 0 s", id="no time"),
        pytest.param(raw_xds_pb2.RawXdsRemoveRequest(), "node_id: it is empty", id="remove from nobody"),
        pytest.param(raw_xds_pb2.RawXdsRemoveRequest(node_id="n"), "type_url: it is empty", id="remove of no type"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_changes_nothing(raw: Raw, request_: object, words: str) -> None:
    call = raw.stub.Set if isinstance(request_, raw_xds_pb2.RawXdsSetRequest) else raw.stub.Remove
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(request_)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (refused.value.details() or "")
    assert raw.store.state("n", Locality()).resources == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])
async def test_it_serves_this_machine_alone(host: str) -> None:
    with pytest.raises(UsageError, match="no loopback address"):
        async with serving(RawStore(), Address("127.0.0.1", 0), Address(host, 0)):
            pass


@contextmanager
def debug_xds(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*PROA, "debug", "xds", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_command_says_where_it_serves_and_ends_when_it_is_told_to(number: signal.Signals) -> None:
    with debug_xds("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0") as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:2] + words[3:4] == ["xds", "ready", "api"]
        with grpc.insecure_channel(words[4]) as channel:
            checked = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            stub = raw_xds_pb2_grpc.RawXdsStub(channel)
            stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[A]), timeout=SECONDS)
        assert checked.status == health_pb2.HealthCheckResponse.SERVING

        process.send_signal(number)
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("option", ["--listen", "--api"])
def test_a_port_that_is_taken_is_said_in_a_sentence(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = "--api" if option == "--listen" else "--listen"
        with debug_xds(option, address, other, "127.0.0.1:0") as process:
            _, error = process.communicate(timeout=SECONDS)

    assert process.returncode == 1
    assert error.splitlines()[-1].startswith(f"error: {address}: ")
    assert "another process may have the port" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0:0", "127.0.0.1:port", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_an_address_that_cannot_be_is_wrong_usage(address: str) -> None:
    with debug_xds("--listen", address, "--api", "127.0.0.1:0") as process:
        _, error = process.communicate(timeout=SECONDS)

    assert (process.returncode, error.count("\n")) == (2, 1)
    assert error.startswith("error: ")


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_the_api_explains_itself_to_grpcurl() -> None:
    with debug_xds("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0") as process:
        assert process.stdout is not None
        api = process.stdout.readline().split()[4]
        resource = {"name": "a", "version": "1", "resource": {"@type": CLUSTER, "name": "a"}}
        setting = json.dumps({"node_id": "*", "resources": [resource]})
        services = grpcurl("-plaintext", api, "list").splitlines()
        described = grpcurl("-plaintext", api, "describe", "proa.v1.RawXds")
        answer = grpcurl("-plaintext", "-d", setting, api, "proa.v1.RawXds/Set")

    assert "proa.v1.RawXds" in services
    assert "rpc Set (" in described
    assert json.loads(answer) == {}


def grpcurl(*arguments: str) -> str:
    assert GRPCURL is not None
    return subprocess.run([GRPCURL, *arguments], capture_output=True, text=True, timeout=SECONDS, check=True).stdout
