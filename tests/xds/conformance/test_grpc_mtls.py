"""A real gRPC client with the bootstrap and the resources of a STRICT mesh: whom it believes, and as whom it calls."""

import asyncio
import time
from datetime import timedelta

import grpc

from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.topology import Endpoint
from tests.xds.conformance.grpc_shop import CLIENT, REPORTER, Shop, serve_health
from tests.xds.conformance.test_grpc_client import Caller
from tests.xds.control_plane import ControlPlane, now

LIFETIME = timedelta(seconds=9)
AT_ONCE = 5.0
"""Seconds in which an answer is no timeout: gRPC's own is 15."""


async def test_a_client_proves_who_it_is_to_the_control_plane_and_to_the_callee(shop: Shop, caller: Caller) -> None:
    async with shop.answering() as endpoint:
        shop.publish(endpoint)
        assert await caller.call() == "SERVING"

    [proxy] = shop.plane.board.proxies()
    assert (proxy.node_id, proxy.identity) == (CLIENT.node_id, REPORTER.uri)
    assert len(shop.callers) == 1


async def test_a_callee_with_the_certificate_of_somebody_else_is_not_believed(shop: Shop, caller: Caller) -> None:
    """Signed by the authority of the mesh, but not for the account that the service runs as."""
    async with shop.answering() as endpoint:
        shop.publish(endpoint, account="clerk")
        refused = await caller.call()
        assert refused.startswith("UNAVAILABLE")
        assert "SANs" in refused

        shop.publish(endpoint, account="stock")
        await caller.until("SERVING")


async def test_an_endpoint_without_mtls_is_not_called_in_plaintext(shop: Shop, caller: Caller) -> None:
    server = grpc.aio.server()
    await serve_health(server)
    plaintext = Endpoint(Address("127.0.0.1", server.add_insecure_port("127.0.0.1:0")), mtls=False)
    await server.start()
    shop.publish(plaintext)
    assert (await caller.call()).startswith("UNAVAILABLE")

    async with shop.answering() as endpoint:
        shop.publish(plaintext, endpoint)
        await caller.until("SERVING")
        assert {await caller.call() for _ in range(20)} == {"SERVING"}, "it goes to those that can"
    await server.stop(None)


async def test_a_control_plane_of_another_authority_is_not_believed(shop: Shop, caller: Caller) -> None:
    """Whoever takes the port does not get to say where calls go."""
    async with shop.answering() as endpoint:
        impostor = ControlPlane()
        key, authority = new_key(), impostor.authority
        chain = shop.plane.authority.issue(key.csr, REPORTER, (), now()).chain_pem
        shop.folder.keep_certificate(chain_pem=chain, key_pem=key.pem, bundle_pem=authority.bundle_pem)
        shop.publish(endpoint)

        assert (await caller.call()).startswith("UNAVAILABLE")
    assert shop.callers == set()


async def test_a_name_that_means_nothing_fails_at_once_and_works_when_it_means_something(
    shop: Shop, caller: Caller
) -> None:
    async with shop.answering() as endpoint:
        shop.publish(endpoint, service="mail")
        began = time.monotonic()
        refused = await caller.call()
        took = time.monotonic() - began

        shop.publish(endpoint)
        await caller.until("SERVING")
        shop.publish(endpoint, service="mail")
        await caller.until("UNAVAILABLE")
        shop.publish(endpoint)
        await caller.until("SERVING")
    assert refused.startswith("UNAVAILABLE")
    assert "stock" in refused
    assert took < AT_ONCE


async def test_certificates_are_renewed_under_load_and_no_call_fails(shop: Shop, caller: Caller) -> None:
    """Each lives for 9 s and every connection for a second, so that whoever goes on with an old one fails."""
    shop.sign(LIFETIME)

    async def renew() -> None:
        while True:
            await asyncio.sleep(LIFETIME.total_seconds() / 4)
            shop.sign(LIFETIME)

    async with shop.answering(max_connection_age_ms=1000) as endpoint, asyncio.TaskGroup() as tasks:
        shop.publish(endpoint)
        renewing = tasks.create_task(renew())
        ends = time.monotonic() + 1.5 * LIFETIME.total_seconds()
        answers = []
        while time.monotonic() < ends:
            answers.append(await caller.call())
        renewing.cancel()

    assert set(answers) == {"SERVING"}
    assert len(shop.callers) >= 3
