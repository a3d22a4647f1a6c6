"""The request handler takes whatever comes: it answers, or ends the stream with a status that says why."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.registry.status import StatusBoard
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.xds.peer import admit_anyone
from mesh.xds.raw import EVERY_NODE, RawStore
from mesh.xds.server import REFUSALS, DiscoveryService
from mesh.xds.wire import DELTA, SOTW, Variant
from tests.xds.control_plane import now

EFFORT = int(os.environ.get("PROA_EFFORT", "1"))
EXAMPLES = 100 * EFFORT
STATUSES = {status for _, status in REFUSALS.values()}

TYPES = st.sampled_from([CLUSTER, ENDPOINT, LISTENER, ROUTE, "type.googleapis.com/unknown", "", "x"])
NAMES = st.lists(st.sampled_from(["a", "b", "c", "*", "", "ü/%2f", "xdstp://x"]) | st.text(max_size=5), max_size=6)
TEXTS = st.sampled_from(["", "0.1", "name.1", "name.2", "name.3", "name.9"]) | st.text(max_size=8)
NODES = st.builds(base_pb2.Node, id=st.sampled_from(["n", "n", "n", "", "another"]))
ERRORS = st.none() | st.builds(status_pb2.Status, message=st.text(max_size=10), code=st.integers(0, 20))

DELTA_REQUESTS = st.builds(
    discovery_pb2.DeltaDiscoveryRequest,
    node=NODES,
    type_url=TYPES,
    resource_names_subscribe=NAMES,
    resource_names_unsubscribe=NAMES,
    initial_resource_versions=st.dictionaries(st.sampled_from(["a", "b", "", "gone"]), TEXTS, max_size=3),
    response_nonce=TEXTS,
    error_detail=ERRORS,
)
SOTW_REQUESTS = st.builds(
    discovery_pb2.DiscoveryRequest,
    node=NODES,
    type_url=TYPES,
    resource_names=NAMES,
    version_info=TEXTS,
    response_nonce=TEXTS,
    error_detail=ERRORS,
)
REQUESTS = {DELTA: DELTA_REQUESTS, SOTW: SOTW_REQUESTS}
RESPONSES: Mapping[Variant[Any], Any] = {
    DELTA: discovery_pb2.DeltaDiscoveryResponse,
    SOTW: discovery_pb2.DiscoveryResponse,
}

each_variant = pytest.mark.parametrize("variant", [DELTA, SOTW], ids=["delta", "sotw"])


class AbortedError(Exception):
    """What `abort` raises, so that nothing after it runs."""


class Context:
    """What a handler is given, without a connection."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.status = grpc.StatusCode.OK
        self.details = ""

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "fuzz"

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    async def write(self, message: bytes) -> None:
        self.sent.append(message)

    async def abort(self, status: grpc.StatusCode, details: str) -> NoReturn:
        self.status, self.details = status, details
        raise AbortedError


async def one_by_one(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
        await asyncio.sleep(0)  # so that it is answered before the next one


def served(variant: Variant[Any], messages: list[bytes]) -> tuple[Context, StatusBoard]:
    """A stream with these messages, to its end."""
    store, board, context = RawStore(), StatusBoard(now), Context()
    store.set(EVERY_NODE, [Resource(name, url, b"", "1") for url in (CLUSTER, LISTENER, ROUTE) for name in "abc"])
    # Nonces that can be guessed.
    named = replace(variant, open=lambda _, type_url: variant.open("name", type_url))
    handler: Any = DiscoveryService(store, board, admit_anyone).method(named)

    async def serve() -> None:
        async with asyncio.timeout(10):
            await handler.stream_stream(one_by_one(messages), context)

    try:
        asyncio.run(serve())
    except AbortedError:
        assert context.status in STATUSES
        assert context.details
    return context, board


def check(variant: Variant[Any], messages: list[bytes]) -> None:
    context, board = served(variant, messages)
    responses = [RESPONSES[variant].FromString(message) for message in context.sent]

    assert len({response.nonce for response in responses}) == len(responses)
    # One answer for each message, the stage behind it, and what a refusal sends apart: never without an end.
    assert len(responses) <= 4 * len(messages) + 4
    counted = sum(refused.count for refused in board.refused_streams())
    assert counted == (context.status is not grpc.StatusCode.OK)
    assert board.lagging() == ()


@each_variant
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_requests_in_any_order(variant: Variant[Any], data: st.DataObject) -> None:
    requests = data.draw(st.lists(REQUESTS[variant], max_size=12))
    check(variant, [request.SerializeToString() for request in requests])


@each_variant
@settings(max_examples=EXAMPLES, deadline=None)
@given(messages=st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes(variant: Variant[Any], messages: list[bytes]) -> None:
    check(variant, messages)


@each_variant
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_requests_with_a_few_wrong_bytes(variant: Variant[Any], data: st.DataObject) -> None:
    message = bytearray(data.draw(REQUESTS[variant]).SerializeToString())
    for at in data.draw(st.lists(st.integers(0, max(0, len(message) - 1)), max_size=4)) if message else []:
        message[at] = data.draw(st.integers(0, 255))
    good = data.draw(st.lists(REQUESTS[variant], max_size=3))
    check(variant, [*(one.SerializeToString() for one in good), bytes(message)])
