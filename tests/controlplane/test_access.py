"""Who may call what over TCP: every method of the API, by every role, against a real server."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

import mesh.api.proa.v1 as v1
from mesh.api.proa.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    status_pb2,
    tokens_pb2,
)
from mesh.controlplane import access, debug
from mesh.controlplane.access import FIRST_CONTACT, PEOPLE, WHO, Who
from mesh.controlplane.tcp import first_contact
from mesh.controlplane.token_service import LIFETIME
from mesh.identity.ca import CertificateAuthority, new_root
from mesh.identity.key import Key, new_key
from mesh.model.names import Identity, Person, control_plane_identity
from mesh.xds.services import SERVICES
from tests.controlplane.conftest import OPTIONS, Client, Remote, today
from tests.unit.registry.builders import policy

DENIED = grpc.StatusCode.PERMISSION_DENIED
DISCOVERY = {f"/{one.name}/{method}" for one in SERVICES for method in (one.sotw, one.delta, one.fetch) if method}


def served() -> list[str]:
    """Every method of the API, as its protos say, and of xDS."""
    modules = (import_module(f"{v1.__name__}.{one.name}") for one in iter_modules(v1.__path__))
    files = (vars(one).get("DESCRIPTOR") for one in modules)
    ours = {service.full_name for one in files if one for service in one.services_by_name.values()} - {debug.SERVICE}
    csds = "envoy.service.status.v3.ClientStatusDiscoveryService"
    services = {*ours, csds, health.SERVICE_NAME, reflection.SERVICE_NAME}
    found = (descriptor_pool.Default().FindServiceByName(name) for name in services)
    return sorted({f"/{one.full_name}/{method.name}" for one in found for method in one.methods} | DISCOVERY)


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    assert sorted(WHO) == served()


async def code_of(channel: grpc.aio.Channel, method: str) -> grpc.StatusCode:
    """What a call with an empty request is answered. To the server every method is a stream of bytes."""
    # One request, and no stream of them: grpc.aio may tell another code for a call that ends while it still writes.
    call = channel.unary_stream(method)(b"", timeout=10, wait_for_ready=True)
    try:
        first = await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    if first is grpc.aio.EOF:
        return await call.code()
    call.cancel()
    return grpc.StatusCode.OK


def test_who_lets_in_is_an_admin_and_who_changes_something_an_operator() -> None:
    """Said a second time, since nobody notices a row that has become another."""

    def named(who: Who) -> set[str]:
        return {method.rpartition(".")[2] for method, needs in WHO.items() if needs is who}

    tokens = {f"TokenService/{name}" for name in ("CreateToken", "ListTokens", "RevokeToken")}
    assert named(Who.ADMIN) == {
        *tokens,
        "CaService/RotateRoot",
        "IdentityService/RestoreIdentity",
        "IdentityService/RevokeIdentity",
    }
    assert named(Who.OPERATOR) == {
        *(f"DocumentService/{name}" for name in ("ApplyDocuments", "ReplaceFileSet", "DeleteDocuments")),
        *(f"WorkloadService/{name}" for name in ("ScaleWorkload", "RestartWorkload")),
        *(f"SchemaService/{name}" for name in ("PushSchema", "DeletePushedSchema")),
        "AuditService/ListAudit",
    }
    assert named(Who.CERTIFIED) == {
        "TokenService/RedeemToken",
        *(f"Health/{name}" for name in ("Check", "Watch", "List")),
    }


@pytest.mark.parametrize("role", [*PEOPLE, "workload"])
async def test_a_caller_may_what_its_row_says_and_nothing_else(remote: Remote, role: str) -> None:
    open_ = remote.as_workload("orders") if role == "workload" else remote.as_role(role)
    async with open_ as channel:
        denied = {method for method in served() if await code_of(channel, method) is DENIED}

    rank = [who.value for who in (Who.VIEWER, Who.OPERATOR, Who.ADMIN)]
    allowed = rank[: rank.index(role) + 1] if role in rank else [role]
    # These two look at what proves who asks, and there is nothing to look at.
    expected = {method for method in served() if WHO[method].value not in [*allowed, Who.CERTIFIED.value]}
    assert denied - {*FIRST_CONTACT} == expected - {*FIRST_CONTACT}


async def test_without_a_certificate_two_methods_can_be_called_and_nothing_else(remote: Remote) -> None:
    async with remote.as_stranger() as channel:
        for method in (*served(), "/proa.v1.Nothing/There"):
            if method not in FIRST_CONTACT and method not in DISCOVERY:
                assert await code_of(channel, method) in (DENIED, grpc.StatusCode.UNIMPLEMENTED), method


def list_documents(channel: grpc.aio.Channel) -> Any:
    return documents_pb2_grpc.DocumentServiceStub(channel).ListDocuments(
        documents_pb2.ListDocumentsRequest(), timeout=5
    )


def of(uri: Identity | Person, trust_domain: str = "") -> tuple[Key, str, CertificateAuthority]:
    key = new_key()
    authority = CertificateAuthority(*new_root(trust_domain or uri.trust_domain, today()))
    return key, authority.issue(key.csr, uri, (), today()).chain_pem, authority


async def test_a_certificate_of_another_authority_does_not_connect(remote: Remote) -> None:
    key, chain, _ = of(Person("proa.local", "admin", "a1"))
    async with remote.as_(key, chain) as channel:
        call = list_documents(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_plaintext_and_no_certificate_do_not_connect(remote: Remote) -> None:
    trusted = grpc.ssl_channel_credentials(remote.roots)
    for channel in (
        grpc.aio.insecure_channel(str(remote.api)),
        grpc.aio.insecure_channel(str(first_contact(remote.api))),
        grpc.aio.secure_channel(str(remote.api), trusted, options=OPTIONS),
    ):
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await documents_pb2_grpc.DocumentServiceStub(channel).ListDocuments(
                    documents_pb2.ListDocumentsRequest()
                )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def sign(remote: Remote) -> Callable[..., tuple[Key, str]]:
    """A certificate of the mesh's own authority, for anybody."""
    from mesh.identity.folder import AuthorityFolder

    folder = AuthorityFolder.open(remote.plane.settings.state / "ca", "proa.local", today())

    def signed(who: Any) -> tuple[Key, str]:
        key = new_key()
        return key, folder.authority.issue(key.csr, who, (), today()).chain_pem

    return signed


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(Person("proa.local", "admin", "nobody"), id="a token that was never made"),
        pytest.param(Person("proa.local", "root", "nobody"), id="a role that is none"),
        pytest.param(control_plane_identity("proa.local"), id="the control plane's own"),
    ],
)
async def test_a_certificate_without_a_token_behind_it_may_nothing(remote: Remote, sign: Any, who: Any) -> None:
    async with remote.as_(*sign(who)) as channel:
        assert await code_of(channel, "/proa.v1.DocumentService/ListDocuments") is DENIED


async def test_a_role_ends_with_its_token(remote: Remote) -> None:
    async with remote.as_role("admin") as channel:
        documents: Any = documents_pb2_grpc.DocumentServiceStub(channel)
        await documents.ListDocuments(documents_pb2.ListDocumentsRequest())
        listed = (await remote.plane.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens
        token = next(one for one in listed if one.role == "admin")
        await remote.plane.client.tokens.RevokeToken(tokens_pb2.RevokeTokenRequest(id=token.id))

        with pytest.raises(grpc.aio.AioRpcError, match="it has expired or was revoked") as caught:
            await documents.ListDocuments(documents_pb2.ListDocumentsRequest())
    assert caught.value.code() is DENIED


async def test_a_stream_of_a_role_ends_with_its_token(remote: Remote) -> None:
    async with remote.as_role("viewer") as channel:
        watch = Client(channel).status.WatchInstances(status_pb2.WatchInstancesRequest())
        await watch.read()
        listed = (await remote.plane.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens
        for token in listed:
            await remote.plane.client.tokens.RevokeToken(tokens_pb2.RevokeTokenRequest(id=token.id))
        async with asyncio.timeout(5):
            assert await watch.code() is DENIED


async def test_a_stream_of_a_role_ends_when_its_token_expires(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "LOOK", timedelta(milliseconds=50))
    tokens, looks = remote.plane.registry.tokens, asyncio.Semaphore(0)

    async def looked_at(id_: str, check: Any = tokens.check) -> Any:
        expires = await check(id_)
        looks.release()
        return expires

    tokens.check = looked_at  # type: ignore[method-assign]
    async with remote.as_role("viewer") as channel:
        watch = Client(channel).status.WatchInstances(status_pb2.WatchInstancesRequest())
        await watch.read()
        for _ in ("at the door", "once it is open"):
            await looks.acquire()
        later = tokens.now() + LIFETIME
        tokens.now = lambda: later
        async with asyncio.timeout(5):
            assert await watch.code() is DENIED
        assert "has expired" in await watch.details()


@pytest.mark.parametrize("by", ["identity", "serial"])
async def test_a_revoked_workload_makes_no_call_on_a_connection_that_is_open(remote: Remote, by: str) -> None:
    key = new_key()
    signed = await remote.plane.client.signed(key, namespace="shop", workload="orders")
    async with remote.as_(key, signed.chain_pem) as channel:
        plan: Any = agents_pb2_grpc.AgentServiceStub(channel).GetLaunchPlan
        asked = agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="orders")
        assert (await plan(asked)).plan.service == "orders"

        await remote.plane.registry.revoke(signed.serial if by == "serial" else "spiffe://proa.local/ns/shop/sa/orders")

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await plan(asked)
        assert (refused.value.code(), "was revoked" in str(refused.value.details())) == (DENIED, True)


async def test_the_audit_log_knows_a_person_by_role_and_token(remote: Remote) -> None:
    async with remote.as_role("operator") as channel:
        await Client(channel).apply(policy("retry", "orders"))
    newest, *_ = await remote.plane.registry.audit(1)
    assert newest.who.startswith("operator by token ")
