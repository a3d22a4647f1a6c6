"""Whoever should not get in at a sidecar's inbound port, while those who may go on. One mesh for the whole table."""

import asyncio
import base64
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc

from mesh.agent.sds import read_secrets, write_secrets
from tests.intruders import Authority, Credentials, any_server
from tests.mesh.attacked import OPENER, Attacked, Door, Seen, legitimate_calls, status, tunnel
from tests.mesh.load import DEADLINE, connected
from tests.mesh.running import BOOKSTORE, admin, documents, patience, soon, start, wait_until_ready, workload

pytestmark = pytest.mark.envoy

WEB = Path(__file__).with_name("shop") / "web.py"
GET = b"GET /headers HTTP/1.1\r\nhost: web\r\nconnection: close\r\n"
ORDERS = "spiffe://proa.local/ns/bookstore/sa/orders"
KING = "spiffe://proa.local/ns/bookstore/sa/king"
TEST_KING = "spiffe://proa.local/ns/test/sa/king"


@pytest.fixture(scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    serve: dict[str, Any] = {"command": ["python", str(WEB)]}
    http, raw = {"name": "http", "port": 80, "appProtocol": "http"}, {"name": "raw", "port": 5432, "appProtocol": "tcp"}
    caller = workload("caller", **serve, ports=[http], upstreams=[{"service": "web"}, {"service": "impostor"}])
    (folder / "more.yaml").write_text(
        documents(workload("web", **serve, ports=[http, raw]), workload("impostor", **serve, ports=[http]), caller)
    )
    mesh = start(folder / "state", BOOKSTORE, folder / "more.yaml")
    try:
        await asyncio.to_thread(wait_until_ready, mesh)
        async with legitimate_calls(mesh) as calls:
            yield Attacked(mesh, calls, Authority.of_mesh(mesh.state.folder), folder)
    finally:
        await asyncio.to_thread(mesh.end)


@dataclass(frozen=True)
class Intruder:
    """What it shows, how it is counted, and what the line of the log says of it."""

    shows: Callable[[Authority], Credentials | None]
    counter: str
    because: str
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    plaintext: bool = False


NO_CERTIFICATE = Intruder(lambda _: None, "ssl.fail_verify_no_cert", "PEER_DID_NOT_RETURN_A_CERTIFICATE")
SEVERAL = Intruder(lambda ca: ca.leaf(ORDERS, KING), "inbound.rbac.denied", r"matched_policy\[several_identities\]")
INTRUDERS = {
    "no certificate": NO_CERTIFICATE,
    "of another CA": Intruder(lambda _: Authority.foreign().leaf(ORDERS), "ssl.fail_verify_error", "issuer"),
    "of another CA with the name of ours": Intruder(
        lambda ca: Authority.foreign(ca.certificate).leaf(ORDERS), "ssl.fail_verify_error", "signature_failure"
    ),
    "signed by a workload": Intruder(
        lambda ca: ca.forged(ORDERS, KING), "ssl.fail_verify_error", "(?i)invalid_CA|path_length"
    ),
    "of another trust domain": Intruder(
        lambda ca: ca.leaf("spiffe://elsewhere/ns/bookstore/sa/orders"), "ssl.fail_verify_san", "SAN_matcher"
    ),
    "of a person": Intruder(lambda ca: ca.leaf("spiffe://proa.local/role/admin/1"), "ssl.fail_verify_san", "SAN"),
    "without a name": Intruder(lambda ca: ca.leaf(), "ssl.fail_verify_san", "SAN"),
    "with a host name only": Intruder(lambda ca: ca.leaf(dns=["orders"]), "ssl.fail_verify_san", "SAN"),
    "expired": Intruder(
        lambda ca: ca.leaf(ORDERS, ends=timedelta(seconds=-1)), "ssl.fail_verify_error", "certificate_has_expired"
    ),
    "not yet valid": Intruder(
        lambda ca: ca.leaf(ORDERS, begins=timedelta(minutes=1)), "ssl.fail_verify_error", "is_not_yet_valid"
    ),
    "two URI SANs": SEVERAL,
    "two URI SANs, the first elsewhere": replace(SEVERAL, shows=lambda ca: ca.leaf("spiffe://elsewhere/x", ORDERS)),
    "plaintext": Intruder(lambda _: None, "no_filter_chain_match", "HTTP_REQUEST", plaintext=True),
    "TLS 1.2": Intruder(
        lambda ca: ca.leaf(ORDERS), "ssl.connection_error", "UNSUPPORTED_PROTOCOL", newest=ssl.TLSVersion.TLSv1_2
    ),
}


@pytest.mark.parametrize("intruder", INTRUDERS.values(), ids=INTRUDERS)
async def test_an_intruder_is_cut_off_counted_and_logged_with_the_reason(
    attacked: Attacked, intruder: Intruder
) -> None:
    await refused(attacked, attacked.door("inventory", 50051), intruder)


@pytest.mark.parametrize("intruder", [NO_CERTIFICATE, SEVERAL], ids=["no certificate", "two URI SANs"])
async def test_an_intruder_at_a_port_of_protocol_tcp_is_refused_and_reaches_no_service(
    attacked: Attacked, intruder: Intruder
) -> None:
    door = attacked.door("web", 5432)
    connections = await door.count("cluster.app/5432.upstream_rq_total")

    seen = await refused(attacked, door, intruder)

    assert seen.answer == b""
    if intruder is NO_CERTIFICATE:
        assert await door.count("cluster.app/5432.upstream_rq_total") == connections


async def refused(attacked: Attacked, door: Door, intruder: Intruder) -> Seen:
    context = None
    if not intruder.plaintext:
        credentials = intruder.shows(attacked.ca)
        context = attacked.context(credentials) if credentials else any_server()
        context.maximum_version = intruder.newest
    counter = intruder.counter if "rbac" in intruder.counter else f"listener.inbound.{intruder.counter}"
    before = await door.count(counter)

    seen = await door.say(GET + b"\r\n", context)

    assert seen.answer == b"", "it got an answer"
    await door.counted(counter, before)
    line = await door.line_about(seen)
    assert re.search(intruder.because, f"{line['refused'] or ''} {line['details'] or ''}"), line
    await attacked.calls.went_on(10)
    assert attacked.calls.failures == []
    return seen


async def test_whoever_does_not_go_on_is_cut_off(attacked: Attacked) -> None:
    """With TLS, in the middle of it, and after it. A limit holds for each, and each is counted."""
    inventory, web = attacked.door("inventory", 50051), attacked.door("web", 80)
    good = attacked.context(attacked.ca.leaf(ORDERS))
    silent, half, slow = "pre_cx_timeout", "cx_transport_socket_connect_timeout", "rq_header_timeout"
    names = f"listener.inbound.downstream_{silent}", f"listener.inbound.downstream_{half}"
    before = [await inventory.count(name) for name in names]
    late = await web.count(f"http.inbound.downstream_{slow}")

    nothing, hello, headers = await asyncio.gather(
        inventory.say(b"", None, 30), inventory.say(client_hello(good), None, 30), web.say(GET, good, 30)
    )

    assert nothing.answer == b""
    assert (nothing.error, hello.error) == ("", ""), "closed, and not given up by us"
    assert headers.answer.startswith(b"HTTP/1.1 408 ")
    for name, count in zip(names, before, strict=True):
        await inventory.counted(name, count)
    await web.counted(f"http.inbound.downstream_{slow}", late)
    assert (await inventory.line_about(hello))["details"] == "transport socket timeout was reached"
    assert attacked.calls.failures == []


def client_hello(context: ssl.SSLContext) -> bytes:
    """How a handshake begins."""
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


async def test_a_session_is_not_resumed(attacked: Attacked) -> None:
    """That looks at no certificate: whoever has had one could come back for days after its end."""
    context = attacked.context(attacked.ca.leaf(ORDERS))

    def twice() -> list[bool | None]:
        session, reused = None, []
        for _ in range(2):
            with (
                socket.create_connection(attacked.door("web", 80).address, timeout=10) as plain,
                context.wrap_socket(plain, session=session) as tls,
            ):
                tls.sendall(GET + b"\r\n")
                assert tls.recv(16).startswith(b"HTTP/1.1 200")
                session = tls.session
                reused.append(tls.session_reused)
        return reused

    assert await asyncio.to_thread(twice) == [False, False]


async def test_a_service_sees_who_calls_and_nothing_that_the_caller_forged(attacked: Attacked) -> None:
    forged = (
        f"x-forwarded-client-cert: URI={KING}",
        f"X-Forwarded-Client-Cert: By={KING};URI={KING}",
        f"x_forwarded_client_cert: URI={KING}",
        "x-envoy-internal: true",
        "x-envoy-upstream-rq-timeout-ms: 1",
        "X-Envoy-Peer-Metadata: 1",
        "x-forwarded-for: 10.0.0.1",
    )
    context = attacked.context(attacked.ca.leaf(ORDERS))

    seen = await attacked.door("web", 80).say(GET + "\r\n".join([*forged, "", ""]).encode(), context)

    headers = said(seen)
    (by,) = (value for name, value in headers if name.replace("_", "-").lower() == "x-forwarded-client-cert")
    assert re.fullmatch(rf"By=spiffe://proa\.local/ns/test/sa/web;Hash=\w+;URI={ORDERS}", by)
    assert [name for name, _ in headers if name.lower().startswith("x-envoy")] == []
    assert ["x-forwarded-for", "10.0.0.1"] in headers, "that is between services; nothing here believes it"


async def test_a_service_cannot_pass_on_what_its_own_callers_forged(attacked: Attacked) -> None:
    """Through its own sidecar: neither an identity nor an order to a proxy."""
    address = attacked.mesh.upstream("caller", "web")
    headers = {
        "x-forwarded-client-cert": f"URI={KING}",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "9",
    }
    request = urllib.request.Request(f"http://{address}/headers", headers=headers)

    answer = await asyncio.to_thread(lambda: OPENER.open(request, timeout=10).read())

    got = json.loads(answer)
    assert dict(got)["x-forwarded-client-cert"].endswith("URI=spiffe://proa.local/ns/test/sa/caller")
    assert [name for name, _ in got if name.lower().startswith("x-envoy")] == []


async def test_a_path_has_no_dots_when_it_reaches_a_service(attacked: Attacked) -> None:
    """A rule that will be about paths must see what the service sees."""
    context = attacked.context(attacked.ca.leaf(ORDERS))

    seen = await attacked.door("web", 80).say(GET.replace(b"/headers", b"/stream/%2e%2e/./headers") + b"\r\n", context)

    assert ["host", "web"] in said(seen)


def said(seen: Seen) -> list[list[str]]:
    """The headers that `web` has got."""
    assert seen.answer.startswith(b"HTTP/1.1 200 "), seen
    found: list[list[str]] = json.loads(seen.answer.partition(b"\r\n\r\n")[2])
    return found


@pytest.mark.parametrize(
    ("headers", "details"),
    [
        pytest.param(b"big: " + b"x" * 70_000 + b"\r\n", "http1.headers_too_large", id="70 KB"),
        pytest.param(b"".join(b"h%d: v\r\n" % n for n in range(101)), "http1.too_many_headers", id="more than 100"),
    ],
)
async def test_headers_that_are_too_large_are_refused_counted_and_logged(
    attacked: Attacked, headers: bytes, details: str
) -> None:
    door, context = attacked.door("web", 80), attacked.context(attacked.ca.leaf(KING))
    before = await door.count("http.inbound.downstream_cx_protocol_error")

    seen = await door.say(GET + headers + b"\r\n", context)

    assert seen.answer.startswith(b"HTTP/1.1 431 ")
    await door.counted("http.inbound.downstream_cx_protocol_error", before)
    assert (await door.line_about(seen))["flags"] == "DPE"
    await soon(lambda: [line for line in door.lines() if line["details"] == details and line["caller"] == KING])
    assert attacked.calls.failures == []


async def test_a_grpc_call_cannot_order_a_proxy_about_nor_bring_too_many_headers(attacked: Attacked) -> None:
    door = attacked.door("inventory", 50051)
    before = await door.count("http2.header_overflow")
    orders = (("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-upstream-stream-duration-ms", "1"), ("a_key", "v"))
    many = tuple((f"key-{n}", "v") for n in range(100))
    context = attacked.context(attacked.ca.leaf(ORDERS), "h2")
    async with tunnel(door.address, context) as address, connected(address) as channel:
        stub: Any = inventory_pb2_grpc.InventoryServiceStub(channel)
        for _ in range(10):
            await stub.GetStock(inventory_pb2.GetStockRequest(book_id=42), timeout=DEADLINE, metadata=orders)

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetStock(inventory_pb2.GetStockRequest(book_id=42), timeout=DEADLINE, metadata=many)

        assert refused.value.code() is grpc.StatusCode.INTERNAL
        await door.counted("http2.header_overflow", before)
        await stub.GetStock(inventory_pb2.GetStockRequest(book_id=42), timeout=DEADLINE)


async def test_a_callee_that_is_another_service_than_the_one_dialled_is_not_called(attacked: Attacked) -> None:
    """It has a certificate of this mesh, and the address of the one who was meant."""
    mesh, caller = attacked.mesh, attacked.door("caller", 80)
    secrets = mesh.state.folder / "instances" / "test.impostor-0" / "sds"
    page = f"http://{mesh.upstream('caller', 'impostor')}/who"
    kept = read_secrets(secrets)
    assert kept
    other = attacked.ca.leaf("spiffe://proa.local/ns/test/sa/web")
    refusals = "cluster.test/impostor/80.ssl.fail_verify_san"

    write_secrets(secrets, chain_pem=other.chain, key_pem=other.key, bundle_pem=kept.bundle_pem)
    try:
        await soon(lambda: served(attacked, "impostor") == ssl.PEM_cert_to_DER_cert(other.chain))
        assert await asyncio.to_thread(status, page) == 503
    finally:
        write_secrets(secrets, chain_pem=kept.chain_pem, key_pem=kept.key_pem, bundle_pem=kept.bundle_pem)
    assert await caller.count(refusals) >= 1
    await soon(lambda: [line for line in caller.lines() if "SAN" in (line.get("upstream_failure") or "")])
    await soon(lambda: status(page) == 200)
    assert attacked.calls.failures == []


def served(attacked: Attacked, workload: str) -> bytes | None:
    """The certificate at the inbound port of a workload."""
    context = attacked.context(attacked.ca.leaf(ORDERS))
    with (
        socket.create_connection(attacked.door(workload, 80).address, timeout=10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.getpeercert(binary_form=True)


async def test_a_revoked_caller_is_refused_at_every_port_counted_and_logged(attacked: Attacked) -> None:
    http, raw = attacked.door("web", 80), attacked.door("web", 5432)
    king = attacked.context(attacked.ca.leaf(TEST_KING))
    assert (await http.say(GET + b"\r\n", king)).answer.startswith(b"HTTP/1.1 200 ")
    assert await echoed(raw, king) == b"HELLO"

    await attacked.mesh.do("identity", "revoke", "test/king", "--allow-unresolved")
    try:
        async with asyncio.timeout(30 * patience()):
            while await echoed(raw, king):  # noqa: ASYNC110 # nothing tells when Envoy has the new filter
                await asyncio.sleep(0.1)
        before = await raw.count("inbound.rbac.denied"), await http.count("http.inbound.rbac.denied")

        refused_there, refused_here = await raw.say(b"hello", king), await http.say(GET + b"\r\n", king)

        assert refused_there.answer == b""
        assert refused_here.answer.startswith(b"HTTP/1.1 403 ")
        await raw.counted("inbound.rbac.denied", before[0])
        await http.counted("http.inbound.rbac.denied", before[1])
        assert "matched_policy[revoked]" in (await raw.line_about(refused_there))["details"]
        await soon(lambda: [one for one in http.lines() if one.get("status") == 403 and one["caller"] == TEST_KING])
    finally:
        await attacked.mesh.do("identity", "restore", "test/king")
    assert attacked.calls.failures == []


async def echoed(door: Door, context: ssl.SSLContext) -> bytes:
    """What the service behind a port of protocol TCP makes of a word; nothing when the connection ends."""

    def say() -> bytes:
        with socket.create_connection(door.address, timeout=10) as plain, context.wrap_socket(plain) as tls:
            try:
                tls.sendall(b"hello")
                return tls.recv(16)
            except OSError:
                return b""

    return await asyncio.to_thread(say)


def test_no_key_is_in_anything_that_envoy_shows_or_writes(attacked: Attacked) -> None:
    for instance in attacked.mesh.file["workloads"]:
        secrets = read_secrets(attacked.mesh.state.folder / "instances" / f"{name_of(instance)}" / "sds")
        assert secrets
        line = secrets.key_pem.splitlines()[1]
        encoded = base64.b64encode(secrets.key_pem.encode()).decode()[40:80]
        shown = [page(instance, path) for path in ("/config_dump?include_eds", "/certs", "/server_info", "/init_dump")]
        log = attacked.mesh.state.log(instance["namespace"], instance["instance"], "envoy").read_text()
        assert "redacted" in shown[0] or "W3JlZGFjdGVkXQ" in shown[0], "the secret is there, and its key is not"
        for text in (*shown, log):
            assert line not in text
            assert encoded not in text
            assert "PRIVATE KEY" not in text


def test_the_admin_interface_is_for_the_owner_alone_and_no_core_file_is_written(attacked: Attacked) -> None:
    for instance in attacked.mesh.file["workloads"]:
        socket_file = Path(instance["envoy"]["admin"].removeprefix("unix:"))
        assert socket_file.stat().st_mode & 0o777 == 0o600
        assert socket_file.parent.stat().st_mode & 0o777 == 0o700
        for pid in (instance["agent"]["pid"], instance["envoy"]["pid"]):
            limits = Path(f"/proc/{pid}/limits").read_text()
            (core,) = (line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size"))
            assert core == "1", "no file, and nothing for a program of the kernel either"


def name_of(instance: dict[str, Any]) -> str:
    return f"{instance['namespace']}.{instance['instance']}"


def page(instance: dict[str, Any], path: str) -> str:
    """As text, whatever it is."""
    return json.dumps(admin(instance, path))
