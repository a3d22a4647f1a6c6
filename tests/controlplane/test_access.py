"""Who may call what over TCP: every method of the API, by every role, against a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from mesh.api.proa.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    schema_pb2,
    schema_pb2_grpc,
    status_pb2,
    tokens_pb2,
    tokens_pb2_grpc,
)
from mesh.controlplane import access, agent_service, wire
from mesh.controlplane.access import FIRST_CONTACT, PEOPLE, WHO, Who
from mesh.controlplane.api import SERVICES
from mesh.controlplane.schema_service import TRANSFERS
from mesh.controlplane.tcp import first_contact
from mesh.controlplane.token_service import LIFETIME
from mesh.identity.ca import CertificateAuthority, new_root
from mesh.identity.key import Key, new_key
from mesh.model.names import Identity, InstanceId, Person, control_plane_identity
from mesh.model.topology import Address
from mesh.xds import services
from tests.controlplane.conftest import Client, Plane, today
from tests.controlplane.test_schema import an_offer
from tests.unit.registry.builders import addresses, policy, workload

OPTIONS = [("grpc.ssl_target_name_override", "control-plane.proa")]
DENIED = grpc.StatusCode.PERMISSION_DENIED
DISCOVERY = {
    f"/{one.name}/{method}" for one in services.SERVICES for method in (one.sotw, one.delta, one.fetch) if method
}


def served() -> list[str]:
    """Every method of the API's server and of xDS."""
    pool = descriptor_pool.Default()
    named = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    return sorted({f"/{name}/{one.name}" for name in named for one in pool.FindServiceByName(name).methods} | DISCOVERY)


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    assert sorted(WHO) == served()


@dataclass
class Remote:
    """The control plane as other machines see it."""

    plane: Plane
    api: Address
    roots: bytes

    @asynccontextmanager
    async def as_(self, key: Key, chain_pem: str) -> AsyncIterator[grpc.aio.Channel]:
        trusted = grpc.ssl_channel_credentials(self.roots, key.pem.encode(), chain_pem.encode())
        async with grpc.aio.secure_channel(str(self.api), trusted, options=OPTIONS) as channel:
            yield channel

    @asynccontextmanager
    async def as_stranger(self) -> AsyncIterator[grpc.aio.Channel]:
        trusted = grpc.ssl_channel_credentials(self.roots)
        async with grpc.aio.secure_channel(str(first_contact(self.api)), trusted, options=OPTIONS) as channel:
            yield channel

    @asynccontextmanager
    async def as_role(self, role: str) -> AsyncIterator[grpc.aio.Channel]:
        key, token = new_key(), await self.plane.client.token(role=role)
        async with self.as_stranger() as channel:
            redeem: Any = tokens_pb2_grpc.TokenServiceStub(channel).RedeemToken
            signed = await redeem(tokens_pb2.RedeemTokenRequest(token=token, csr=key.csr))
        async with self.as_(key, signed.chain_pem) as channel:
            yield channel

    @asynccontextmanager
    async def as_workload(self, name: str) -> AsyncIterator[grpc.aio.Channel]:
        key = new_key()
        signed = await self.plane.client.signed(key, namespace="shop", workload=name)
        async with self.as_(key, signed.chain_pem) as channel:
            yield channel


@pytest.fixture
async def remote(listening: Plane) -> Remote:
    await listening.client.start_with(workload("orders"), workload("stock"))
    await listening.client.signed(new_key(), namespace="shop", workload="orders")
    made = await listening.client.tokens.CreateToken(tokens_pb2.CreateTokenRequest(role="viewer"))
    return Remote(listening, listening.settings.listen[0], made.roots_pem.encode())


async def code_of(channel: grpc.aio.Channel, method: str) -> grpc.StatusCode:
    """What a call with an empty request is answered. To the server every method is a stream of bytes."""
    call = channel.stream_stream(method)(timeout=10, wait_for_ready=True)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(b"")
        await call.done_writing()
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


async def test_a_workload_acts_for_itself_alone(remote: Remote) -> None:
    async with remote.as_workload("orders") as channel:
        agents: Any = agents_pb2_grpc.AgentServiceStub(channel)
        plan = await agents.GetLaunchPlan(agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="orders"))
        assert plan.plan.identity == "spiffe://proa.local/ns/shop/sa/orders"

        with pytest.raises(grpc.aio.AioRpcError, match="may only act for itself") as caught:
            await agents.GetLaunchPlan(agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="stock"))
        assert caught.value.code() is DENIED

        at = wire.addresses_message(addresses(21_000))
        hello = agents_pb2.Hello(namespace="shop", workload="stock", instance="stock-9", generation="g", addresses=at)
        call = agents.Attach()
        await call.write(agents_pb2.AttachRequest(hello=hello))
        assert await call.code() is DENIED
    assert InstanceId("shop", "stock", "stock-9") not in remote.plane.registry.leases


async def test_a_workload_from_elsewhere_has_room_for_so_many_instances(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_service, "MOST_INSTANCES", 1)
    at = wire.addresses_message(addresses(21_000))
    async with remote.as_workload("orders") as channel:
        first, second, again = (
            agents_pb2.Hello(namespace="shop", workload="orders", instance=name, generation="g", addresses=at)
            for name in ("orders-1", "orders-2", "orders-1")
        )
        agents: Any = agents_pb2_grpc.AgentServiceStub(channel)
        calls = [agents.Attach() for _ in range(3)]
        await calls[0].write(agents_pb2.AttachRequest(hello=first))
        assert (await calls[0].read()).attached
        await calls[1].write(agents_pb2.AttachRequest(hello=second))
        assert await calls[1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await calls[2].write(agents_pb2.AttachRequest(hello=again))
        assert (await calls[2].read()).attached
        calls[2].cancel()


async def test_a_workload_from_elsewhere_sends_one_schema_at_a_time_so_that_others_have_their_turn(
    remote: Remote,
) -> None:
    def offered(channel: Any, workload: str, content: bytes) -> Any:
        call = schema_pb2_grpc.SchemaServiceStub(channel).ReportSchema()
        return call, call.write(schema_pb2.ReportSchemaRequest(offer=an_offer(content, f"{workload}-0")))

    async with (
        remote.as_workload("orders") as one,
        remote.as_workload("stock") as other,
        remote.plane.client.attached("orders-0"),
        remote.plane.client.attached("stock-0"),
    ):
        greedy = [offered(one, "orders", b"x" * (number + 1)) for number in range(TRANSFERS + 2)]
        for _, written in greedy:
            await written
        reads = [asyncio.ensure_future(call.read()) for call, _ in greedy]
        done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().HasField("wanted") for task in done] == [True]

        patient, written = offered(other, "stock", b"y")
        await written
        async with asyncio.timeout(10):
            assert (await patient.read()).HasField("wanted")
        assert not any(task.done() for task in waiting), "one at a time"

        greedy[reads.index(done.pop())][0].cancel()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.done() for task in waiting].count(True) == 1
        for call, _ in (*greedy, (patient, None)):
            call.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


async def test_an_agent_from_elsewhere_is_told_where_it_has_found_the_control_plane(remote: Remote) -> None:
    async with remote.as_workload("orders") as channel:
        client = Client(channel)
        hello = agents_pb2.Hello(
            namespace="shop",
            workload="orders",
            instance="orders-far",
            generation=(await client.plan()).generation,
            addresses=wire.addresses_message(addresses(21_000)),
            server="10.1.2.3:7443",
        )
        call = client.agents.Attach()
        await call.write(agents_pb2.AttachRequest(hello=hello))
        attached = (await call.read()).attached
        call.cancel()
    assert attached.xds == "10.1.2.3:7443"
    assert '"address": "10.1.2.3"' in attached.bootstrap
