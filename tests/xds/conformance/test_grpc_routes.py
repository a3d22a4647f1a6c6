"""A real gRPC client takes the routes of a mesh as they are meant: it understands every match of a GRPCRoute."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from mesh.model.topology import Endpoint
from tests.builders import a_document, a_workload
from tests.xds.conformance.grpc_shop import Shop
from tests.xds.conformance.test_grpc_client import Caller

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
TWO_VERSIONS = (
    a_workload("stock", "port: 50051, version: v1"),
    a_workload("stock-two", "service: stock, port: 50051, version: v2, serviceAccount: stock"),
)
"""`stock-v1` says SERVING, `stock-v2` that it does not."""


@dataclass
class Versions:
    """A service of two versions. `route` sends its calls by a GRPCRoute with these rules."""

    shop: Shop
    one: Endpoint
    two: Endpoint

    def route(self, *rules: str) -> None:
        spec = f"{{parentRefs: [{{group: '', kind: Service, name: stock}}], rules: [{', '.join(rules)}]}}"
        route = a_document("GRPCRoute", "route", spec).replace("proa.mesh/v1alpha1", "gateway.networking.k8s.io/v1")
        self.shop.publish_all({"": (self.one, self.two), "v1": (self.one,), "v2": (self.two,)}, *TWO_VERSIONS, route)


@pytest.fixture
async def versions(shop: Shop) -> AsyncIterator[Versions]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(shop.answering(SERVING))
        two = await stack.enter_async_context(shop.answering(NOT_SERVING))
        yield Versions(shop, one, two)


def to(version: str, weight: int = 1) -> str:
    return f"{{group: '', kind: Service, name: stock-{version}, port: 50051, weight: {weight}}}"


async def answers(caller: Caller, times: int = 60) -> Counter[str]:
    return Counter([(await caller.call()).partition(" ")[0] for _ in range(times)])


async def test_calls_are_shared_by_weight(versions: Versions, caller: Caller) -> None:
    versions.route(f"{{backendRefs: [{to('v1', 3)}, {to('v2', 1)}]}}")

    seen = await answers(caller, 200)

    assert seen.keys() == {"SERVING", "NOT_SERVING"}
    assert 110 < seen["SERVING"] < 190


@pytest.mark.parametrize(
    "match",
    [
        "{method: {service: grpc.health.v1.Health, method: Check}}",
        "{method: {service: grpc.health.v1.Health}}",
        "{method: {method: Check}}",
        "{method: {type: RegularExpression, service: 'grpc[.].+', method: 'C.*'}}",
        "{headers: [{name: x-user, type: RegularExpression, value: 'al.*'}]}",
        "{headers: [{name: x-user, value: alice}]}",
    ],
    ids=["method", "service", "method of any service", "regular expressions", "part of a header", "header"],
)
async def test_a_match_of_a_route_is_understood(versions: Versions, caller: Caller, match: str) -> None:
    versions.route(f"{{matches: [{match}], backendRefs: [{to('v2')}]}}", f"{{backendRefs: [{to('v1')}]}}")

    assert await answers(caller, 10) == {"NOT_SERVING": 10}


async def test_a_match_that_does_not_fit_is_passed_over(versions: Versions, caller: Caller) -> None:
    match = "{headers: [{name: x-canary, value: yes}]}"
    versions.route(f"{{matches: [{match}], backendRefs: [{to('v2')}]}}", f"{{backendRefs: [{to('v1')}]}}")

    assert await answers(caller, 10) == {"SERVING": 10}


async def test_the_share_of_nobody_is_unavailable_at_once(versions: Versions, caller: Caller) -> None:
    versions.route(f"{{backendRefs: [{to('v1')}, {to('v3')}]}}")

    seen = await answers(caller)

    assert seen.keys() == {"SERVING", "UNAVAILABLE"}
    assert 10 < seen["UNAVAILABLE"] < 50
