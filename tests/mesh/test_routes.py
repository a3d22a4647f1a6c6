"""Routes on a real mesh: applied, seen by callers, taken back, without a stream that ends."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.mesh.reused import Reused
from tests.mesh.running import RunningMesh, documents, patience, workload

pytestmark = pytest.mark.envoy

SERVER = Path(__file__).with_name("routes") / "stock.py"
CHANGES = 50
STREAM_SECONDS = 30.0


def gateway_api(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "test"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "stock"}], **spec},
    }


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "proa.mesh/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "stock"}], **spec},
    }


def to(*shares: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "port": 50051, "weight": weight} for name, weight in shares]


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reused]:
    folder = tmp_path_factory.mktemp("stocks")
    server = {"command": ["${python}", str(SERVER)], "ports": [{"port": 50051}], "health": {"type": "tcp"}}
    path = folder / "mesh.yaml"
    path.write_text(
        documents(
            workload("stock", env={"NAME": "v1"}, **server),
            workload("stock-v2", service="stock", version="v2", env={"NAME": "v2"}, **server),
            workload("web", command=["sleep", "1000"], upstreams=[{"service": "stock", "env": "STOCK"}]),
        )
    )
    reused = Reused(folder, path)
    yield reused
    reused.end()


@pytest.fixture
def mesh(stocks: Reused) -> Iterator[RunningMesh]:
    with stocks.lent() as mesh:
        yield mesh


async def who(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> str:
    """Which version answers, or the status."""
    try:
        answer: bytes = await channel.unary_unary("/shop.Stock/Who")(b"", metadata=metadata, timeout=10)  # type: ignore[type-var]
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return answer.decode()


async def test_a_canary_comes_by_header_then_by_weight_and_goes(mesh: RunningMesh) -> None:
    async with grpc.aio.insecure_channel(mesh.upstream("web", "stock")) as channel:
        assert {await who(channel) for _ in range(20)} == {"v1", "v2"}

        by_header = {"matches": [{"headers": [{"name": "x-canary", "value": "1"}]}], "backendRefs": to(("stock-v2", 1))}
        await apply(mesh, gateway_api("GRPCRoute", "canary", rules=[by_header, {"backendRefs": to(("stock-v1", 1))}]))
        await soon_all(channel, {"v1"})
        assert {await who(channel, ("x-canary", "1")) for _ in range(20)} == {"v2"}

        await apply(mesh, gateway_api("GRPCRoute", "canary", rules=[{"backendRefs": to(("stock-v1", 0))}]))
        await soon_all(channel, {"UNAVAILABLE"})

        rule = {"matches": [{"method": {"service": "shop.Else"}}], "backendRefs": to(("stock-v1", 1))}
        await apply(mesh, gateway_api("GRPCRoute", "canary", rules=[rule]))
        await soon_all(channel, {"UNIMPLEMENTED"})

        shown = json.loads(await mesh.do("get", "grpcroute", "canary", "-n", "test", "-o", "json"))
        [parent] = shown["status"]["parents"]
        assert parent["parentRef"] == {"group": "", "kind": "Service", "namespace": "test", "name": "stock"}
        assert {one["type"]: one["status"] for one in parent["conditions"]} == {
            "Accepted": "True",
            "ResolvedRefs": "True",
        }
        assert shown["apiVersion"] == "gateway.networking.k8s.io/v1"

        await mesh.do("delete", "grpcroute", "canary", "-n", "test")
        await soon_all(channel, {"v1", "v2"})


async def test_what_a_route_names_and_is_not_there_is_refused(mesh: RunningMesh) -> None:
    wrong = documents(gateway_api("GRPCRoute", "canary", rules=[{"backendRefs": to(("stock-v3", 1))}]))

    refused = mesh.proa("apply", "-f", "-", text=wrong)
    allowed = mesh.proa("apply", "-f", "-", "--allow-unresolved", text=wrong)

    assert (refused.returncode, "Did you mean stock-v" in refused.stderr) == (2, True)
    assert (allowed.returncode, "warning" in allowed.stderr) == (0, True)
    async with grpc.aio.insecure_channel(mesh.upstream("web", "stock")) as channel:
        await soon_all(channel, {"UNAVAILABLE"})
    shown = json.loads(await mesh.do("get", "grpcroute", "canary", "-n", "test", "-o", "json"))
    conditions = {one["type"]: one["reason"] for one in shown["status"]["conditions"]}
    assert conditions["ResolvedRefs"] == "BackendNotFound"
    await mesh.do("delete", "grpcroute", "canary", "-n", "test")


async def test_a_stream_outlives_every_change(mesh: RunningMesh) -> None:
    """A server stream of half a minute, while routes and policies come, change and go at random."""
    chance = random.Random(7)
    begun = asyncio.get_running_loop().time()
    async with grpc.aio.insecure_channel(mesh.upstream("web", "stock")) as channel:
        stream = channel.unary_stream("/shop.Stock/Watch")(b"")
        assert await stream.read()
        for number in range(CHANGES):
            await apply(mesh, a_change(chance, number))
            assert await stream.read(), number
        while asyncio.get_running_loop().time() - begun < STREAM_SECONDS:
            assert await stream.read()
        assert not stream.done()
        stream.cancel()


def a_change(chance: random.Random, number: int) -> dict[str, Any]:
    rule = {
        "matches": [{"method": {"service": "shop.Stock", "method": chance.choice(["Who", "Watch"])}}],
        "backendRefs": to(("stock-v1", chance.randint(0, 9)), ("stock-v2", chance.randint(0, 9))),
    }
    by_header = {"type": "ConsistentHash", "consistentHash": {"type": "Header", "header": {"name": "x"}}}
    limits = {"request": f"{chance.randint(1, 9)}ms", "streamIdle": "60s"}
    return chance.choice([
        gateway_api("GRPCRoute", f"r{number % 3}", rules=[rule, {"backendRefs": to(("stock", 1))}]),
        gateway_api("GRPCRoute", f"r{number % 3}", rules=[rule]),
        policy(f"p{number % 3}", retry={"numRetries": chance.randint(1, 9)}),
        policy(f"p{number % 3}", timeouts=limits),
        policy(f"p{number % 3}", loadBalancer=by_header),
    ])  # fmt: skip


async def apply(mesh: RunningMesh, document: dict[str, Any]) -> None:
    done = await asyncio.to_thread(mesh.proa, "apply", "-f", "-", text=documents(document))
    assert done.returncode == 0, done.stderr


async def soon_all(channel: grpc.aio.Channel, answers: set[str]) -> None:
    """Returns when a change has reached the caller's sidecar: twenty calls in a row are answered so."""
    async with asyncio.timeout(15 * patience()):
        while {await who(channel) for _ in range(20)} != answers:  # noqa: ASYNC110 # nothing tells when it has
            await asyncio.sleep(0.05)
