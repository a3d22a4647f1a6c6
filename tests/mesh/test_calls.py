"""Calls through the mesh, and calls past it."""

import json
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from bookstore.orders.v1 import orders_pb2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.mesh.load import DEADLINE, connected, get_book, get_stock, place_order
from tests.mesh.running import ROOT, RunningMesh

pytestmark = pytest.mark.envoy

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=ROOT / "build" / "bin")


async def test_an_order_reaches_catalog_and_inventory(shared: RunningMesh) -> None:
    before = requests_at(shared, "catalog"), requests_at(shared, "inventory")
    async with connected(shared.instance("orders")["address"]) as channel:
        order = (await place_order(channel)()).order

    assert order.state == orders_pb2.ORDER_STATE_PLACED
    assert [line.book_id for line in order.lines] == [42]
    after = requests_at(shared, "catalog"), requests_at(shared, "inventory")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1], "each call went through its Envoy"


def requests_at(mesh: RunningMesh, workload: str) -> int:
    """How many requests the sidecar of a workload has passed to its service."""
    from tests.mesh.running import admin

    stats = admin(mesh.instance(workload), "/stats?format=json&filter=^cluster.app/50051.upstream_rq_total$")["stats"]
    return sum(stat["value"] for stat in stats)


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_an_order_can_be_placed_with_grpcurl(shared: RunningMesh) -> None:
    address = shared.instance("orders")["address"]
    request = {"idempotency_key": str(uuid.uuid4()), "customer_id": "me", "items": [{"book_id": 42, "quantity": 1}]}

    listed = grpcurl("-plaintext", address, "list")
    placed = grpcurl("-plaintext", "-d", json.dumps(request), address, "bookstore.orders.v1.OrderService/PlaceOrder")

    assert "bookstore.orders.v1.OrderService" in listed.splitlines()
    assert json.loads(placed)["order"]["state"] == "ORDER_STATE_PLACED"


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_the_control_api_answers_grpcurl(shared: RunningMesh) -> None:
    socket = shared.file["control_plane"]["address"].removeprefix("unix:")

    services = grpcurl("-plaintext", "-unix", socket, "list").splitlines()
    proxies = grpcurl("-plaintext", "-unix", socket, "proa.v1.StatusService/ListProxies")

    assert {"proa.v1.DocumentService", "proa.v1.StatusService", "grpc.health.v1.Health"} <= set(services)
    assert len(json.loads(proxies)["proxies"]) == 3


def grpcurl(*arguments: str) -> str:
    done = subprocess.run([str(GRPCURL), *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("key", "call", "service"),
    [
        pytest.param("catalog", get_book, "bookstore.catalog.v1.CatalogService", id="catalog"),
        pytest.param("inventory", get_stock, "bookstore.inventory.v1.InventoryService", id="inventory"),
    ],
)
async def test_an_upstream_answers_at_its_address_reflection_included(
    shared: RunningMesh, key: str, call: Callable[[grpc.aio.Channel], Callable[[], Awaitable[Any]]], service: str
) -> None:
    async with connected(shared.upstream("orders", key)) as channel:
        await call(channel)()
        assert service in await reflected(channel)


async def test_a_name_that_nobody_has_is_refused_with_a_sentence(shared: RunningMesh) -> None:
    outbound = shared.instance("orders")["envoy"]["outbound"]
    async with grpc.aio.insecure_channel(outbound, options=[("grpc.default_authority", "zebra")]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_stock(channel)()

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "no service of this name can be called from here" in (refused.value.details() or "")


async def test_the_outbound_port_routes_by_authority(shared: RunningMesh) -> None:
    outbound = shared.instance("orders")["envoy"]["outbound"]
    for authority in ("inventory", "inventory:50051", "inventory.bookstore.svc.cluster.local"):
        async with grpc.aio.insecure_channel(outbound, options=[("grpc.default_authority", authority)]) as channel:
            await get_stock(channel)()


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    """The services that the other end says it has."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for answer in stub.ServerReflectionInfo(asked, timeout=DEADLINE):
        return [service.name for service in answer.list_services_response.service]
    return []


async def test_a_plaintext_call_at_an_inbound_port_is_refused(shared: RunningMesh) -> None:
    async with connected(shared.instance("inventory")["envoy"]["inbound"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_stock(channel)()

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("certificate", ["none", "of another CA", "of another CA, with a name of this mesh"])
def test_a_tls_call_without_a_certificate_of_this_mesh_is_refused(
    shared: RunningMesh, certificate: str, tmp_path: Path
) -> None:
    host, _, port = shared.instance("inventory")["envoy"]["inbound"].partition(":")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(shared.state.folder / "ca" / "roots.pem")
    if certificate != "none":
        name = shared.instance("orders")["identity"] if "name" in certificate else "spiffe://elsewhere/ns/a/sa/b"
        client.load_cert_chain(foreign_certificate(tmp_path, name))

    with socket.create_connection((host, int(port)), timeout=5) as plain, client.wrap_socket(plain) as tls:
        assert tls.getpeercert() is not None, "the sidecar itself is genuine"
        # TLS 1.3: a client learns with its first read that its certificate was refused.
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate|unknown ca"):
            tls.recv(1)


def foreign_certificate(folder: Path, uri: str) -> Path:
    """A certificate and its key, signed by a CA that this mesh has never heard of."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "foreign.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
