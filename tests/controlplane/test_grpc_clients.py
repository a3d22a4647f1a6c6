"""gRPC clients without a sidecar, as the control plane sees them: attached as an account, told by name."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from cryptography import x509

from mesh.api.proa.v1 import agents_pb2, documents_pb2, status_pb2
from mesh.identity.key import new_key
from mesh.model.names import InstanceId
from mesh.registry.leases import NO_ADDRESSES, endpoints_of
from mesh.snapshot.types import CLUSTER, LISTENER, ROUTE
from tests.controlplane.conftest import SECONDS, Agent, Client, Plane
from tests.controlplane.proxy import Proxy, proxy
from tests.unit.registry.builders import policy, workload

CLIENT = InstanceId.of_client("shop", "reporter", "1f2e")
ROUTES = "upstream/shop/inventory/50051"
ONE_METHOD = "method: {service: a.B, method: C}, timeouts: {request: 1s}"

CHANGING = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: changing, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: depot, namespace: far}]
  rules:
    - matches: [{method: {service: a.B}}, {method: {service: a.C}}]
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-debug]}}]
"""
"""What callers in `shop` want of a service elsewhere."""


def hello(**changes: str) -> agents_pb2.Hello:
    said = {"namespace": "shop", "service_account": "reporter", "instance": "1f2e", **changes}
    return agents_pb2.Hello(**said)


@asynccontextmanager
async def attached(client: Client, **changes: str) -> AsyncIterator[Agent]:
    call = client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello(**changes)))
    response = await call.read()
    assert isinstance(response, agents_pb2.AttachResponse), await call.code()
    try:
        yield Agent(call, response.attached)
    finally:
        call.cancel()


async def signed(client: Client, **changes: str) -> agents_pb2.SignCertificateResponse:
    return await client.signed(new_key(), **{"namespace": "shop", "service_account": "reporter", **changes})


async def credentials(client: Client, **who: str) -> grpc.ChannelCredentials:
    key = new_key()
    got = await client.signed(key, **who)
    return grpc.ssl_channel_credentials(got.bundle_pem.encode(), key.pem.encode(), got.chain_pem.encode())


async def listed(client: Client, until: Callable[[dict[str, status_pb2.Proxy]], bool]) -> dict[str, status_pb2.Proxy]:
    """All proxies by node id, as soon as `until` holds for them."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await client.status.ListProxies(status_pb2.ListProxiesRequest())
            found = {one.node_id: one for one in answer.proxies}
            if until(found):
                return found
            await asyncio.sleep(0.02)


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders"), workload("inventory"))
    return plane


async def test_a_client_is_attached_as_an_account_and_is_no_instance_of_anything(shop: Plane) -> None:
    async with attached(shop.client) as agent:
        assert agent.attached.node_id == "shop/sa:reporter/1f2e"
        assert agent.attached.xds == str(shop.settings.xds)
        assert agent.attached.bootstrap == ""
        proxies = await listed(shop.client, lambda found: CLIENT.node_id in found)
        assert proxies[CLIENT.node_id].identity == "spiffe://proa.local/ns/shop/sa/reporter"
        assert await shop.client.instances() == {}
        lease = shop.registry.leases[CLIENT]
        assert (lease.addresses, endpoints_of([lease])) == (NO_ADDRESSES, {})


async def test_a_client_that_leaves_is_forgotten_at_once_and_one_that_breaks_after_its_term(shop: Plane, clock) -> None:
    async with attached(shop.client) as agent:
        await agent.drain()
        await agent.drained()
    await listed(shop.client, lambda found: CLIENT.node_id not in found)

    async with attached(shop.client):
        pass
    async with asyncio.timeout(SECONDS):
        while shop.registry.attached(CLIENT):  # noqa: ASYNC110 # it is the server that notices
            await asyncio.sleep(0.01)
    assert CLIENT in shop.registry.leases
    clock.advance(11)
    await shop.registry.expire()
    assert CLIENT not in shop.registry.leases


async def test_a_lease_of_a_client_outlives_the_control_plane(opened) -> None:
    before = await opened()
    lease = await before.attach(CLIENT, "", NO_ADDRESSES)
    await before.close()

    assert (await opened()).leases == {CLIENT: lease}


async def test_the_certificate_is_that_of_the_account(shop: Plane) -> None:
    got = await signed(shop.client)
    leaf = x509.load_pem_x509_certificate(got.chain_pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert list(names) == [x509.UniformResourceIdentifier("spiffe://proa.local/ns/shop/sa/reporter")]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=25)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        pytest.param({"service_account": "Rep orter"}, "is not allowed", id="no name"),
        pytest.param({"service_account": "a/b"}, "is not allowed", id="a slash"),
        pytest.param({"service_account": "sa:reporter"}, "is not allowed", id="a colon"),
        pytest.param({"namespace": ""}, "is not allowed", id="no namespace"),
        pytest.param({"namespace": "shop.office"}, "is not allowed", id="a dot"),
        pytest.param(
            {"namespace": "proa-system", "service_account": "control-plane"}, "the control plane itself", id="us"
        ),
    ],
)
async def test_an_account_that_cannot_be_is_not_signed(shop: Plane, wish: dict[str, str], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused:
        await signed(shop.client, **wish)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_nobody_gets_the_identity_of_the_control_plane_by_a_workload_either(plane: Plane) -> None:
    document = workload("impostor", "serviceAccount: control-plane").replace(
        "namespace: shop", "namespace: proa-system"
    )
    await plane.client.start_with(document)

    with pytest.raises(grpc.aio.AioRpcError, match="the control plane itself"):
        await plane.client.signed(new_key(), namespace="proa-system", workload="impostor")


async def test_a_mesh_without_documents_has_no_authority_yet(plane: Plane) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="it has no document yet") as refused:
        await signed(plane.client)

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"instance": ""}, id="no instance"),
        pytest.param({"instance": "a/b"}, id="a slash"),
        pytest.param({"namespace": ""}, id="no namespace"),
        pytest.param({"service_account": "UPPER"}, id="no account"),
        pytest.param({"service_account": "", "workload": "sa:reporter"}, id="a workload by the name of a client"),
    ],
)
async def test_a_hello_that_names_no_client_is_refused(shop: Plane, wish: dict[str, str]) -> None:
    call = shop.client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello(**wish)))

    assert await call.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert shop.registry.leases == {}


@pytest.mark.parametrize(
    ("node", "who"),
    [
        pytest.param(CLIENT.node_id, {"service_account": "clerk"}, id="that of another account"),
        pytest.param("shop/orders/orders-0", {"service_account": "reporter"}, id="that of an instance"),
        pytest.param(CLIENT.node_id, {"workload": "orders"}, id="an instance that of a client"),
        pytest.param("shop/sa:reporter/other", {"service_account": "reporter"}, id="one that nobody has attached"),
    ],
)
async def test_nobody_asks_in_the_name_of_somebody_else(shop: Plane, node: str, who: dict[str, str]) -> None:
    trusted = await credentials(shop.client, namespace="shop", **who)
    async with (
        attached(shop.client),
        shop.client.attached("orders-0"),
        proxy(shop.settings.xds, node, trusted, asks=[CLUSTER]) as impostor,
    ):
        async with asyncio.timeout(SECONDS):
            assert await impostor.call.code() is grpc.StatusCode.PERMISSION_DENIED


@asynccontextmanager
async def told(shop: Plane, *names: str) -> AsyncIterator[Proxy]:
    """A client that is attached and asks for listeners of these names."""
    trusted = await credentials(shop.client, namespace="shop", service_account="reporter")
    async with attached(shop.client), proxy(shop.settings.xds, CLIENT.node_id, trusted, asks=[]) as it:
        await it.subscribe(LISTENER, *names, node=CLIENT.node_id)
        await it.until(*names)
        yield it


async def test_what_a_client_does_not_do_is_said_of_it_and_of_no_sidecar(shop: Plane) -> None:
    await shop.client.apply(policy("often", "inventory", retries=9))
    async with told(shop, "inventory", "inventroy") as client, shop.client.attached("orders-0"):
        await client.subscribe(ROUTE, ROUTES)
        await client.until(ROUTES)
        proxies = await listed(shop.client, lambda found: len(found) == 2 and len(found[CLIENT.node_id].unmet) == 2)

    nothing, often = proxies[CLIENT.node_id].unmet
    assert nothing == "it asks for inventroy, and no service has that name there"
    assert often.startswith("BackendTrafficPolicy/shop/often (")
    assert "retry.numRetries 9" in often
    assert not proxies["shop/orders/orders-0"].unmet


async def test_a_service_with_too_many_methods_for_a_client_is_told(
    shop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.policy.grpc_client.MOST_ROUTES", 0)
    await shop.client.apply(policy("often", "inventory").replace("retry:", f"methods: [{{{ONE_METHOD}}}], retry:"))
    async with told(shop, "inventory") as client:
        await client.subscribe(ROUTE, ROUTES)
        await client.until(ROUTES)
        proxies = await listed(shop.client, lambda found: len(found[CLIENT.node_id].unmet) > 0)

    assert proxies[CLIENT.node_id].unmet[:1] == [
        "inventory: with its rules it has too many methods for a gRPC client: no limits, no retries"
    ]


async def test_what_a_sidecar_follows_is_no_matter_of_what_clients_do(shop: Plane) -> None:
    await shop.client.apply(policy("often", "inventory", retries=9))
    trusted = await credentials(shop.client, namespace="shop", workload="orders")
    async with (
        shop.client.attached("orders-0"),
        proxy(shop.settings.xds, "shop/orders/orders-0", trusted, asks=[]) as sidecar,
    ):
        await sidecar.subscribe(ROUTE, ROUTES, node="shop/orders/orders-0")
        await sidecar.until(ROUTES)
        proxies = await listed(shop.client, lambda found: len(found) == 1)

    assert not proxies["shop/orders/orders-0"].unmet


async def test_what_concerns_a_service_of_another_namespace_is_said_once(shop: Plane) -> None:
    """Its policies are those of its own namespace; routes may be the caller's."""
    far = [text.replace("namespace: shop", "namespace: far") for text in (workload("depot"), policy("p", "depot", 9))]
    await shop.client.apply(*far, workload("depot"), policy("near", "depot", 8), CHANGING)
    async with told(shop, "depot.far") as client:
        await client.subscribe(ROUTE, "upstream/far/depot/50051")
        await client.until("upstream/far/depot/50051")
        proxies = await listed(shop.client, lambda found: len(found[CLIENT.node_id].unmet) > 0)

    often, changes = proxies[CLIENT.node_id].unmet
    assert often.startswith("BackendTrafficPolicy/far/p (")
    assert changes == "GRPCRoute shop/changing: a gRPC client changes no headers"


@pytest.mark.parametrize(
    "name", ["garbage", "upstream/shop/inventory/http", "upstream/a/b/c/d/e/f", ROUTES + "/v9", ""]
)
async def test_routes_that_cannot_be_are_asked_for_in_vain(shop: Plane, name: str) -> None:
    async with told(shop, "inventory") as client:
        await client.subscribe(ROUTE, name, ROUTES)
        await client.until(ROUTES)
        proxies = await listed(shop.client, lambda found: CLIENT.node_id in found)

    assert list(proxies[CLIENT.node_id].unmet) == []


async def test_what_is_said_of_a_client_is_bounded(shop: Plane) -> None:
    async with told(shop, *(f"nobody-{number}" for number in range(1_000))):
        proxies = await listed(shop.client, lambda found: len(found[CLIENT.node_id].unmet) > 0)

    assert len(proxies[CLIENT.node_id].unmet) == 51
    assert proxies[CLIENT.node_id].unmet[-1] == "and 950 more"


async def test_a_document_concerns_the_clients_that_call_its_service(shop: Plane) -> None:
    async with told(shop, "inventory") as client:
        await client.subscribe(ROUTE, ROUTES)
        await client.until(ROUTES)
        for name, count in (("inventory", 1), ("orders", 0)):
            wanted = f"concerns {count} of the connected proxies"
            async with asyncio.timeout(SECONDS):
                while await programmed(shop.client, name) != wanted:  # noqa: ASYNC110 # it has yet to acknowledge
                    await asyncio.sleep(0.02)


async def programmed(client: Client, name: str) -> str:
    found = await client.documents.ListDocuments(documents_pb2.ListDocumentsRequest(name=name))
    [message] = [one.message for one in found.documents[0].conditions if one.type == "Programmed"]
    return str(message)


async def test_a_client_that_asks_for_nothing_that_is_there_holds_nobody_up(shop: Plane) -> None:
    """It has answered for all that it asks for."""
    async with told(shop, "nobody"):
        proxies = await listed(shop.client, lambda found: found[CLIENT.node_id].state == status_pb2.PROXY_STATE_SYNCED)

    assert not proxies[CLIENT.node_id].waits
