"""What should get nobody a certificate, at the port for those who have none."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc, tokens_pb2
from mesh.identity.key import Key, new_key, signature_by
from mesh.identity.token import Claims, signed
from tests.controlplane.conftest import today
from tests.intruders import Authority, Credentials
from tests.mesh.control_plane.plane import (
    CATALOG,
    DENIED,
    ORDERS,
    WHO,
    Plane,
)
from tests.mesh.running import patience

pytestmark = pytest.mark.envoy


Evidence = Callable[[Plane, Key], Any]


async def replayed(plane: Plane, key: Key) -> dict[str, Any]:
    token = await plane.token(**WHO)
    async with plane.channel("first contact", None) as channel:
        stub: Any = agents_pb2_grpc.AgentServiceStub(channel)
        await stub.SignCertificate(agents_pb2.SignCertificateRequest(**WHO, csr=new_key().csr, token=token), timeout=10)
    return {"token": token}


async def for_another(plane: Plane, key: Key) -> dict[str, Any]:
    return {"token": await plane.token(namespace="bookstore", workload="catalog")}


async def for_another_namespace(plane: Plane, key: Key) -> dict[str, Any]:
    return {"token": await plane.token(namespace="office", service_account="orders")}


async def with_a_role(plane: Plane, key: Key) -> dict[str, Any]:
    return {"token": await plane.token(role="admin")}


async def expired(plane: Plane, key: Key) -> dict[str, Any]:
    token = await plane.token(**WHO, lifetime=timedelta(seconds=1), note="expires")
    async with asyncio.timeout(10 * patience()):
        while any(one.note == "expires" for one in (await listed(plane))):  # noqa: ASYNC110 # time has to pass
            await asyncio.sleep(0.1)
    return {"token": token}


async def revoked(plane: Plane, key: Key) -> dict[str, Any]:
    token = await plane.token(**WHO, note="revoked")
    (id_,) = [one.id for one in await listed(plane) if one.note == "revoked"]
    await plane.tokens(lambda stub: stub.RevokeToken(tokens_pb2.RevokeTokenRequest(id=id_)))
    return {"token": token}


async def listed(plane: Plane) -> Any:
    return (await plane.tokens(lambda stub: stub.ListTokens(tokens_pb2.ListTokensRequest()))).tokens


async def forged(plane: Plane, key: Key) -> dict[str, Any]:
    claims = Claims("00000000", today() + timedelta(hours=1), "bookstore", "orders")
    return {"token": signed(claims, bytes(32))}


async def altered(plane: Plane, key: Key) -> dict[str, Any]:
    """What another one is for, under the signature of this."""
    version, _, mac = (await plane.token(**WHO)).split(".")
    content = (await plane.token(role="admin")).split(".")[1]
    return {"token": f"{version}.{content}.{mac}"}


async def nothing(plane: Plane, key: Key) -> dict[str, Any]:
    return {}


def renewed(leaf: Credentials, key: Key) -> dict[str, Any]:
    return {"renewal": {"chain_pem": leaf.chain, "signature": signature_by(leaf.chain, leaf.key, key.csr)}}


async def by_another_ca(plane: Plane, key: Key) -> dict[str, Any]:
    return renewed(Authority.foreign(plane.ca.certificate).leaf(ORDERS), key)


async def by_two_names(plane: Plane, key: Key) -> dict[str, Any]:
    return renewed(plane.ca.leaf(ORDERS, CATALOG), key)


async def by_another_workload(plane: Plane, key: Key) -> dict[str, Any]:
    return renewed(plane.ca.leaf(CATALOG), key)


async def by_a_thief_of_the_certificate(plane: Plane, key: Key) -> dict[str, Any]:
    return renewed(replace(plane.ca.leaf(ORDERS), key=new_key().pem), key)


EVIDENCE: dict[Evidence, str] = {
    replayed: "it was used as often as it may be",
    for_another: "it is for bookstore/catalog, not for bookstore/orders",
    for_another_namespace: "it is for office/orders, not for bookstore/orders",
    with_a_role: "it is for role admin, not for",
    expired: "it has expired",
    revoked: "it was revoked",
    forged: "this is no token of this mesh",
    altered: "this is no token of this mesh",
    nothing: "nothing proves who asks for it",
    by_another_ca: "it is not of this mesh, or has ended",
    by_two_names: "it is of nobody",
    by_another_workload: "it is of spiffe://proa.local/ns/bookstore/sa/catalog",
    by_a_thief_of_the_certificate: "whoever sent it does not have its key",
}


@pytest.mark.parametrize(
    ("evidence", "words"), EVIDENCE.items(), ids=[one.__name__.replace("_", " ") for one in EVIDENCE]
)
async def test_what_proves_nothing_gets_no_certificate(plane: Plane, evidence: Evidence, words: str) -> None:
    key = new_key()
    shown = await evidence(plane, key)
    async with (
        plane.channel("first contact", None) as channel,
        plane.noticed(f"call_refused .*{words}", "proa_refused_calls_total", DENIED.name),
    ):
        stub: Any = agents_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await stub.SignCertificate(agents_pb2.SignCertificateRequest(**WHO, csr=key.csr, **shown), timeout=10)
        assert caught.value.code() is DENIED
    assert not shown.get("token") or shown["token"] not in plane.log()
