"""A real gRPC client leaves out an endpoint that fails, and sends no more calls at a time than it may."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from mesh.translate import grpc_client
from tests.mesh.running import patience
from tests.xds.conformance.grpc_shop import Shop
from tests.xds.conformance.test_grpc_client import WITHIN, Caller

SERVING = HealthCheckResponse.SERVING
ENDPOINTS = 5
"""gRPC compares no fewer, and only those that have had 100 calls in an interval."""


class Failing(grpc.aio.ServerInterceptor):
    """Fails every call."""

    def __init__(self) -> None:
        self.calls = 0

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        async def fails(_: Any, context: Any) -> Any:
            self.calls += 1
            await context.abort(grpc.StatusCode.INTERNAL, "as asked")

        return grpc.unary_unary_rpc_method_handler(fails)


class Holding(grpc.aio.ServerInterceptor):
    """Answers nothing until it lets go."""

    def __init__(self) -> None:
        self.held = 0
        self.let_go = asyncio.Event()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.held += 1
        await self.let_go.wait()
        return await continuation(handler_call_details)


async def answers(caller: Caller, times: int) -> Counter[str]:
    await caller.start(times)
    return Counter([(await caller.answer()).partition(" ")[0] for _ in range(times)])


async def fails(caller: Caller, *, until: bool) -> float:
    """When calls fail, or do not any more; of each hundred every endpoint that is not left out gets one."""
    async with asyncio.timeout(WITHIN * patience()):
        while ("INTERNAL" in await answers(caller, 20 * ENDPOINTS)) is not until:
            pass
    return time.monotonic()


async def test_an_endpoint_that_fails_every_call_is_left_out_and_comes_back(
    shop: Shop, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = patience()  # as many calls as are needed to see it may take a second, there
    monkeypatch.setattr(grpc_client, "INTERVAL", timedelta(seconds=3) * slow)
    monkeypatch.setattr(grpc_client, "EJECTION", timedelta(seconds=3) * slow)
    async with AsyncExitStack() as stack:
        callees = [
            shop.answering(),
            *(shop.answering() for _ in range(ENDPOINTS - 2)),
            shop.answering(SERVING, Failing()),
        ]
        shop.publish(*[await stack.enter_async_context(one) for one in callees])
        await fails(caller, until=True)

        left_out = await fails(caller, until=False)
        back = await fails(caller, until=True)

    assert back - left_out > 1.5 * slow, "it is left out for twice as long, less what it took to see that"


async def test_an_endpoint_is_not_left_out_for_what_all_of_them_say(
    shop: Shop, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a caller asks for what does not exist."""
    monkeypatch.setattr(grpc_client, "INTERVAL", timedelta(seconds=1))
    failing = [Failing() for _ in range(ENDPOINTS)]
    async with AsyncExitStack() as stack:
        callees = [await stack.enter_async_context(shop.answering(SERVING, one)) for one in failing]
        shop.publish(*callees)
        await everywhere(caller, failing)
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            before = [one.calls for one in failing]
            await answers(caller, 20 * ENDPOINTS)
            assert all(one.calls > was for one, was in zip(failing, before, strict=True))


async def everywhere(caller: Caller, failing: Iterable[Failing]) -> None:
    """Until the client is connected to all of them."""
    async with asyncio.timeout(WITHIN * patience()):
        while not all(one.calls for one in failing):
            await answers(caller, ENDPOINTS)


async def test_calls_beyond_the_most_at_a_time_fail_at_once(
    shop: Shop, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_client, "MOST", 5)
    holding = Holding()
    async with shop.answering(SERVING, holding) as callee:
        shop.publish(callee)
        await caller.start(12)
        refused = [await caller.answer() for _ in range(7)]
        held = holding.held
        holding.let_go.set()
        rest = [await caller.answer() for _ in range(5)]
        again = await caller.call()

    assert {one.partition(" ")[0] for one in refused} == {"UNAVAILABLE"}
    assert held <= 5
    assert {*rest, again} == {"SERVING"}
