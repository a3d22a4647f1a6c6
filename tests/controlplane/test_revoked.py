"""What is taken back: streams that are open, streams to come, certificates, and what others believe."""

import asyncio
from typing import Any

import grpc
import pytest
from cryptography import x509

from mesh.api.proa.v1 import access_pb2, access_pb2_grpc, agents_pb2, documents_pb2
from mesh.controlplane import identity_service
from mesh.identity.ca import serial
from mesh.identity.key import Key, new_key, signature_by
from mesh.model.names import InstanceId
from tests.controlplane.conftest import Plane
from tests.controlplane.proxy import METHOD, proxy
from tests.unit.registry.builders import policy, workload

ORDERS = {"namespace": "shop", "workload": "orders"}
URI = "spiffe://proa.local/ns/shop/sa/orders"
NODE = "shop/orders/orders-0"
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders"), workload("stock"))
    return plane


@pytest.fixture
def identities(shop: Plane) -> Any:
    return access_pb2_grpc.IdentityServiceStub(shop.client.channel)


async def certificate(shop: Plane) -> tuple[Key, str, str]:
    key = new_key()
    signed = await shop.client.signed(key, **ORDERS)
    return key, signed.chain_pem, signed.bundle_pem


def trusted(key: Key, chain: str, roots: str) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(roots.encode(), key.pem.encode(), chain.encode())


def renewal(key: Key, chain: str) -> agents_pb2.SignCertificateRequest:
    csr = new_key().csr
    old = agents_pb2.Renewal(chain_pem=chain, signature=signature_by(chain, key.pem, csr))
    return agents_pb2.SignCertificateRequest(csr=csr, renewal=old, **ORDERS)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is DENIED
    return str(caught.value.details())


@pytest.mark.parametrize("by", ["identity", "serial"])
async def test_streams_that_are_open_end_at_once_and_none_begins(shop, identities, by):
    key, chain, roots = await certificate(shop)
    number = serial(x509.load_pem_x509_certificate(chain.encode()))
    what = {"identity": "shop/orders"} if by == "identity" else {"serial": number}
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, NODE, trusted(key, chain, roots)) as envoy:
        await envoy.until("inbound/50051")
        revoked = (await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(**what))).revoked
        assert (revoked.identity or revoked.serial) == (URI if by == "identity" else number)
        async with asyncio.timeout(5):
            assert await envoy.call.code() is DENIED

    options = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc.aio.secure_channel(str(shop.settings.xds), trusted(key, chain, roots), options=options) as channel:
        again = channel.stream_stream(METHOD)()
        async with asyncio.timeout(5):
            assert await again.code() is DENIED


async def test_an_identity_that_is_revoked_gets_no_certificate_and_attaches_nothing(shop, identities):
    key, chain, _ = await certificate(shop)
    token, hello = await shop.client.token(**ORDERS), await shop.client.hello("orders-0")
    async with shop.client.attached("orders-0"):
        await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity=URI))
        assert InstanceId("shop", "orders", "orders-0") not in shop.registry.leases

    assert "it was revoked" in await refusal(shop.client.agents.SignCertificate(renewal(key, chain)))
    request = agents_pb2.SignCertificateRequest(csr=new_key().csr, token=token, **ORDERS)
    assert "it was revoked" in await refusal(shop.client.agents.SignCertificate(request))
    call = shop.client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello))
    assert await call.code() is DENIED

    await identities.RestoreIdentity(access_pb2.RestoreIdentityRequest(identity="shop/orders"))
    assert (await shop.client.agents.SignCertificate(request)).serial
    async with shop.client.attached("orders-0"):
        pass


async def test_one_certificate_is_revoked_and_others_of_the_identity_are_not(shop, identities):
    (lost, lost_chain, _), (kept, kept_chain, _) = await certificate(shop), await certificate(shop)
    number = serial(x509.load_pem_x509_certificate(lost_chain.encode()))
    await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(serial=f"00:{number.upper()}"))

    assert "it was revoked" in await refusal(shop.client.agents.SignCertificate(renewal(lost, lost_chain)))
    assert (await shop.client.agents.SignCertificate(renewal(kept, kept_chain))).serial


async def test_what_is_revoked_outlives_a_restart(shop, identities, opened):
    await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity="shop/orders"))
    again = await opened()
    assert again.is_revoked(URI)
    assert again.topology.revoked == (URI,)


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"identity": "orders"}, id="no namespace"),
        pytest.param({"identity": "a/b/c"}, id="three parts"),
        pytest.param({"identity": "spiffe://other/ns/shop/sa/orders"}, id="another trust domain"),
        pytest.param({"identity": "proa-system/control-plane"}, id="the control plane"),
        pytest.param({"serial": "orders"}, id="no number"),
        pytest.param({"identity": "../x"}, id="a path"),
        pytest.param({"identity": "a,b/c"}, id="two names"),
        pytest.param({"identity": "shop/", "allow_unresolved": True}, id="half a name, whoever has it"),
        pytest.param({"identity": "spiffe://proa.local/ns/Shop/sa/orders\n"}, id="a line"),
        pytest.param({"serial": "1"}, id="part of a number"),
        pytest.param({"serial": "ab" * 21}, id="a number and more"),
        pytest.param({"serial": "ab" * 20, "identity": "shop/orders"}, id="both"),
    ],
)
async def test_what_cannot_be_revoked_is_refused(shop, identities, wish):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(**wish))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("shop/order", "Did you mean shop/orders?"),
        ("spiffe://proa.local/ns/shop/sa/order", "Did you mean shop/orders?"),
        ("bank/xyz", "Look at: proa get workloads -A."),
    ],
)
async def test_an_identity_that_nobody_has_is_not_revoked_in_the_place_of_another(shop, identities, name, remedy):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity=name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"{remedy} If it is not there yet, or not any more: --allow-unresolved" in str(caught.value.details())
    assert not shop.registry.state.revoked

    for _ in range(2):
        request = access_pb2.RevokeIdentityRequest(identity=name, allow_unresolved=True)
        assert (await identities.RevokeIdentity(request)).revoked.identity in shop.registry.state.revoked


async def test_the_identity_of_a_token_an_instance_or_a_list_is_one_that_somebody_has(shop, identities):
    await shop.client.token(namespace="office", service_account="clerk")
    hello = agents_pb2.Hello(namespace="office", service_account="teller", instance="x")
    call = shop.client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello))
    await call.read()
    for name in ("office/clerk", "office/teller", "office/teller"):
        await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity=name))


async def test_what_could_not_be_revoked_today_is_restored_as_it_is_listed(shop, identities):
    for name in ("1", "spiffe://proa.local/ns/a,b/sa/c"):
        await shop.registry.revoke(name)
    for one in (await identities.ListRevoked(access_pb2.ListRevokedRequest())).revoked:
        request = access_pb2.RestoreIdentityRequest(identity=one.identity, serial=one.serial)
        await identities.RestoreIdentity(request)
    assert not shop.registry.state.revoked


async def test_what_was_not_revoked_is_not_restored(shop, identities):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await identities.RestoreIdentity(access_pb2.RestoreIdentityRequest(identity="shop/orders"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_every_kind_of_change_is_in_the_audit_log_with_who_made_it(shop, identities, monkeypatch):
    await shop.client.apply(policy("retry", "orders"))
    key = documents_pb2.DocumentKey(kind="BackendTrafficPolicy", namespace="shop", name="retry")
    await shop.client.documents.DeleteDocuments(documents_pb2.DeleteDocumentsRequest(keys=[key]))
    await shop.client.token(role="viewer")
    await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity="shop/orders"))
    await identities.RestoreIdentity(access_pb2.RestoreIdentityRequest(identity="shop/orders"))

    audit: Any = access_pb2_grpc.AuditServiceStub(shop.client.channel)
    entries = (await audit.ListAudit(access_pb2.ListAuditRequest())).entries

    assert [one.what for one in reversed(entries)] == [
        "document created (file)",
        "document created (file)",
        "document created (applied)",
        "document deleted (applied)",
        "token created",
        "identity revoked",
        "identity restored",
    ]
    assert {one.who for one in entries} == {"the owner of the socket"}
    assert len((await audit.ListAudit(access_pb2.ListAuditRequest(most=2))).entries) == 2
    monkeypatch.setattr(identity_service, "MOST_ENTRIES", 3)
    assert len((await audit.ListAudit(access_pb2.ListAuditRequest(most=1_000_000))).entries) == 3


async def test_the_stream_of_its_agent_ends_so_that_it_comes_back_when_it_may(shop, identities):
    async with shop.client.attached("orders-0") as agent, shop.client.attached("stock-0") as other:
        await identities.RevokeIdentity(access_pb2.RevokeIdentityRequest(identity="shop/orders"))
        async with asyncio.timeout(5):
            assert await agent.call.code() is DENIED
        await other.report()
        await shop.client.instances(lambda found: found["stock-0"].report.healthy)
