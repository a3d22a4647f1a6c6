"""A real gRPC client ends calls when a policy says so, and not before."""

import socket
import time

from mesh.model.address import Address
from mesh.model.topology import Endpoint
from tests.builders import a_policy, a_workload
from tests.xds.conformance.grpc_shop import Shop
from tests.xds.conformance.test_grpc_client import Caller


def limit(shop: Shop, seconds: str, endpoint: Endpoint) -> None:
    """Calls of the one method may take so long."""
    method = f"{{method: {{service: grpc.health.v1.Health, method: Check}}, timeouts: {{request: {seconds}}}}}"
    policy = a_policy("limit", f"{{targetRefs: [{{kind: Service, name: stock}}], methods: [{method}]}}")
    shop.publish_all({"": [endpoint]}, a_workload("stock", "port: 50051"), policy)


async def test_a_call_has_all_the_time_that_a_policy_gives_it(shop: Shop, caller: Caller) -> None:
    """The library of C and Python takes away up to two seconds: of these, nothing would be left."""
    async with shop.answering() as endpoint:
        limit(shop, "1s", endpoint)
        await caller.until("SERVING")  # the first call has to connect in this time, too

        assert {await caller.call() for _ in range(5)} == {"SERVING"}


async def test_a_call_that_nobody_answers_ends_when_a_policy_says_so(shop: Shop, caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limit(shop, "3s", Endpoint(Address(*silent.getsockname())))
        await caller.until("DEADLINE_EXCEEDED")
        began = time.monotonic()
        assert (await caller.call()).startswith("DEADLINE_EXCEEDED")

    assert 3 <= time.monotonic() - began < 15, "the caller's own deadline is 20 s"
