"""Who gets a certificate: with a token for a first one, with the certificate before it for the next."""

from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509

from mesh.api.proa.v1 import agents_pb2, tokens_pb2
from mesh.identity.ca import CertificateAuthority, new_root
from mesh.identity.key import new_key, signature_by
from mesh.model.names import Identity
from tests.controlplane.conftest import Client, Plane, today
from tests.unit.registry.builders import workload

ORDERS = {"namespace": "shop", "workload": "orders"}
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders"), workload("stock"), workload("clerk", "serviceAccount: orders"))
    return plane


async def refused(client: Client, **request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.agents.SignCertificate(agents_pb2.SignCertificateRequest(**request))
    return caught.value.code(), caught.value.details() or ""


async def test_a_token_is_good_for_one_certificate_and_its_key_may_ask_again(shop):
    client, key, token = shop.client, new_key(), await shop.client.token(**ORDERS)
    first = await client.agents.SignCertificate(agents_pb2.SignCertificateRequest(csr=key.csr, token=token, **ORDERS))
    again = await client.agents.SignCertificate(agents_pb2.SignCertificateRequest(csr=key.csr, token=token, **ORDERS))

    assert first.serial != again.serial
    code, words = await refused(client, csr=new_key().csr, token=token, **ORDERS)
    assert (code, "as often as it may be" in words) == (DENIED, True)
    assert token not in words


async def test_without_evidence_nobody_gets_one_nor_learns_what_there_is(shop):
    code, words = await refused(shop.client, csr=new_key().csr, **ORDERS)
    assert (code, "nothing proves who asks" in words) == (DENIED, True)
    code, words = await refused(shop.client, csr=new_key().csr, namespace="shop", workload="oders", token="guess")
    assert (code, "orders" in words) == (DENIED, False)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"namespace": "shop", "workload": "stock"}, id="another workload"),
        pytest.param({"namespace": "office", "service_account": "orders"}, id="the account in another namespace"),
    ],
)
async def test_a_token_is_for_its_account_in_its_namespace_alone(shop, other):
    token = await shop.client.token(**ORDERS)

    code, words = await refused(shop.client, csr=new_key().csr, token=token, **other)

    assert code is DENIED
    assert "it is for shop/orders, not for" in words
    assert (await shop.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens[0].used == 0


async def test_a_request_that_cannot_be_signed_uses_up_no_token(shop):
    join, role = await shop.client.token(**ORDERS), await shop.client.token(role="viewer", uses=1)
    for csr in (b"", b"nonsense", new_key().csr[:-1]):
        code, words = await refused(shop.client, csr=csr, token=join, **ORDERS)
        assert (code, "its certificate request cannot be read" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        with pytest.raises(grpc.aio.AioRpcError, match="its certificate request cannot be read"):
            await shop.client.tokens.RedeemToken(tokens_pb2.RedeemTokenRequest(token=role, csr=csr))

    listed = (await shop.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens
    assert [one.used for one in listed] == [0, 0]


async def test_a_token_is_for_every_workload_with_its_account(shop):
    token = await shop.client.token(**ORDERS)
    request = agents_pb2.SignCertificateRequest(namespace="shop", workload="clerk", csr=new_key().csr, token=token)
    assert (await shop.client.agents.SignCertificate(request)).serial


async def test_a_revoked_token_is_refused(shop):
    token = await shop.client.token(**ORDERS)
    (listed,) = (await shop.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens
    await shop.client.tokens.RevokeToken(tokens_pb2.RevokeTokenRequest(id=listed.id))

    code, words = await refused(shop.client, csr=new_key().csr, token=token, **ORDERS)

    assert (code, "it was revoked" in words) == (DENIED, True)


async def test_a_token_with_a_role_is_for_no_workload_and_the_other_way_round(shop):
    role = await shop.client.token(role="admin")
    assert (await refused(shop.client, csr=new_key().csr, token=role, **ORDERS))[0] is DENIED
    join = await shop.client.token(**ORDERS)
    with pytest.raises(grpc.aio.AioRpcError, match="it is for a workload"):
        await shop.client.tokens.RedeemToken(tokens_pb2.RedeemTokenRequest(token=join, csr=new_key().csr))


async def test_a_certificate_for_a_role_is_for_minutes_and_no_longer_than_its_token(shop):
    redeem = shop.client.tokens.RedeemToken
    for lifetime, most in ((timedelta(hours=1), timedelta(minutes=5)), (timedelta(seconds=30), timedelta(seconds=30))):
        token = await shop.client.token(role="viewer", lifetime=lifetime)
        signed = await redeem(tokens_pb2.RedeemTokenRequest(token=token, csr=new_key().csr))
        assert signed.not_after.ToDatetime(UTC) <= today() + most


async def test_a_token_with_a_role_may_be_counted(shop):
    token = await shop.client.token(role="viewer", uses=1)
    await shop.client.tokens.RedeemToken(tokens_pb2.RedeemTokenRequest(token=token, csr=new_key().csr))
    with pytest.raises(grpc.aio.AioRpcError, match="as often as it may be"):
        await shop.client.tokens.RedeemToken(tokens_pb2.RedeemTokenRequest(token=token, csr=new_key().csr))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"role": "root"}, "Roles are viewer, operator, admin", id="no such role"),
        pytest.param({"role": "admin", "workload": "orders"}, "cannot be given so", id="a role and a workload"),
        pytest.param({**ORDERS, "uses": -1}, "it cannot be for -1 uses", id="fewer than none"),
        pytest.param({**ORDERS, "uses": 1001}, "Choose 1 to 1000", id="too many uses"),
        pytest.param({**ORDERS, "lifetime": timedelta(days=2)}, "at most", id="too long for a workload"),
        pytest.param({"role": "viewer", "lifetime": timedelta(days=31)}, "at most", id="too long for a role"),
        pytest.param({**ORDERS, "lifetime": timedelta()}, "at most", id="no time at all"),
    ],
)
async def test_a_token_that_cannot_be_is_refused(shop, asked, words):
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        await shop.client.token(**asked)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Old:
    """A certificate of `shop/orders` as its holder has it."""

    def __init__(self, key_pem: str, chain_pem: str) -> None:
        self.key_pem, self.chain_pem = key_pem, chain_pem

    def request(self, csr: bytes, **changes: Any) -> dict[str, Any]:
        signature = signature_by(self.chain_pem, self.key_pem, csr)
        return {**ORDERS, "csr": csr, "renewal": {"chain_pem": self.chain_pem, "signature": signature}, **changes}


@pytest.fixture
async def old(shop: Plane) -> Old:
    key = new_key()
    return Old(key.pem, (await shop.client.signed(key, **ORDERS)).chain_pem)


async def test_a_certificate_is_renewed_by_the_one_before_again_and_again(shop, old):
    for _ in range(3):
        key = new_key()
        signed = await shop.client.agents.SignCertificate(agents_pb2.SignCertificateRequest(**old.request(key.csr)))
        leaf = x509.load_pem_x509_certificate(signed.chain_pem.encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [name.value for name in names] == ["spiffe://proa.local/ns/shop/sa/orders"]
        old = Old(key.pem, signed.chain_pem)


async def test_a_certificate_renews_none_but_its_own(shop, old):
    code, words = await refused(shop.client, **old.request(new_key().csr, workload="stock"))
    assert (code, "it is of spiffe://proa.local/ns/shop/sa/orders, not of" in words) == (DENIED, True)


async def test_a_signature_is_for_one_request_and_by_one_key(shop, old):
    for request in (
        {**old.request(new_key().csr), "csr": new_key().csr},
        Old(new_key().pem, old.chain_pem).request(new_key().csr),
        old.request(new_key().csr, renewal={"chain_pem": old.chain_pem, "signature": b""}),
    ):
        code, words = await refused(shop.client, **request)
        assert (code, "whoever sent it does not have its key" in words) == (DENIED, True)


def of_another_authority(lifetime: timedelta = timedelta(hours=1), ago: timedelta = timedelta()) -> Old:
    key, now = new_key(), today()
    authority = CertificateAuthority(*new_root("proa.local", now - timedelta(days=1)))
    leaf = authority.issue(key.csr, Identity("proa.local", "shop", "orders"), (), now - ago, lifetime)
    return Old(key.pem, leaf.chain_pem)


async def test_a_certificate_of_another_authority_renews_nothing(shop):
    code, words = await refused(shop.client, **of_another_authority().request(new_key().csr))
    assert (code, "it is not of this mesh, or has ended" in words) == (DENIED, True)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "x" * 100_000, "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"]
)
async def test_what_is_no_certificate_renews_nothing(shop, old, text):
    code, words = await refused(
        shop.client, **old.request(new_key().csr, renewal={"chain_pem": text, "signature": b"x"})
    )
    assert (code, "it cannot be read" in words) == (DENIED, True)


async def test_no_token_is_ever_in_the_log(shop, caplog):
    caplog.set_level("DEBUG")
    token = await shop.client.token(**ORDERS)
    await refused(shop.client, csr=b"nonsense", token=token, **ORDERS)
    await refused(shop.client, csr=b"nonsense", token=token + "x", **ORDERS)
    assert "token_created" in caplog.text
    assert token not in caplog.text
    assert token.split(".")[2] not in caplog.text
