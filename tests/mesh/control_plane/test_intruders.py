"""Whoever should not get in at the control plane's ports, while those who may go on."""

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest

from mesh.agent.logfile import LARGEST
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc, documents_pb2, documents_pb2_grpc
from mesh.model.address import Address
from tests.intruders import Authority, Credentials, any_server
from tests.mesh.control_plane.plane import (
    CATALOG,
    DENIED,
    ELSEWHERE,
    EXHAUSTED,
    METHOD,
    ORDERS,
    PREFACE,
    WHO,
    Plane,
    code_of_view,
)
from tests.mesh.running import patience, soon

pytestmark = pytest.mark.envoy


@dataclass(frozen=True)
class Intruder:
    """Does not come beyond TLS: what it shows, and what the log says of it."""

    shows: Callable[[Authority], Credentials | None]
    because: str
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    plaintext: bool = False


UNVERIFIED = "(CERTIFICATE_VERIFY_FAILED|BAD_SIGNATURE)"
PLAINTEXT = Intruder(lambda _: None, "WRONG_VERSION_NUMBER", plaintext=True)
TLS_1_2 = Intruder(lambda ca: ca.leaf(ORDERS), "NO_SHARED_CIPHER", newest=ssl.TLSVersion.TLSv1_2)
INTRUDERS = {
    "plaintext": PLAINTEXT,
    "TLS 1.2": TLS_1_2,
    "no certificate": Intruder(lambda _: None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    "another CA": Intruder(lambda _: Authority.foreign().leaf(ORDERS), UNVERIFIED),
    "another CA with the name of ours": Intruder(lambda ca: Authority.foreign(ca.certificate).leaf(ORDERS), UNVERIFIED),
    "signed by a workload": Intruder(lambda ca: ca.forged(ORDERS, CATALOG), UNVERIFIED),
    "expired": Intruder(lambda ca: ca.leaf(ORDERS, ends=timedelta(seconds=-1)), UNVERIFIED),
    "not yet valid": Intruder(lambda ca: ca.leaf(ORDERS, begins=timedelta(minutes=1)), UNVERIFIED),
}
AT_TLS = [
    *(pytest.param(port, one, id=f"{name} at {port}") for port in ("xds", "api") for name, one in INTRUDERS.items()),
    pytest.param("first contact", PLAINTEXT, id="plaintext at first contact"),
    pytest.param("first contact", TLS_1_2, id="TLS 1.2 at first contact"),
]


@pytest.mark.parametrize(("port", "intruder"), AT_TLS)
async def test_who_has_no_good_certificate_is_cut_off_and_the_log_says_why(
    plane: Plane, port: str, intruder: Intruder
) -> None:
    context = None
    if not intruder.plaintext:
        shown = intruder.shows(plane.ca)
        context = shown.context(plane.folder, ["h2"]) if shown else any_server(["h2"])
        context.maximum_version = intruder.newest
    before = (await plane.numbers())["proa_tls_handshakes_total",]

    async with plane.noticed(f"Handshake failed .*{intruder.because}"):
        assert await asyncio.to_thread(answer, plane.address(port), context) == b""

    assert (await plane.numbers())["proa_tls_handshakes_total",] > before


def answer(address: Address, context: ssl.SSLContext | None) -> bytes:
    """What comes for the beginning of HTTP/2."""
    with socket.create_connection((address.host, address.port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) if context else plain as stream:
                stream.sendall(PREFACE)
                return stream.recv(1024)
        except TimeoutError:
            raise
        except OSError:
            return b""


@pytest.mark.parametrize("port", ["xds", "api"])
async def test_a_good_certificate_is_answered(plane: Plane, port: str) -> None:
    """So that what is looked at above is not what everyone gets."""
    context = plane.ca.leaf(ORDERS).context(plane.folder, ["h2"])
    assert await asyncio.to_thread(answer, plane.address(port), context)


async def test_a_session_is_worth_no_more_than_its_certificate(plane: Plane) -> None:
    """Whoever goes on with one shows no certificate, and what was shown when it began has ended meanwhile."""
    address = plane.address("xds")
    context = plane.ca.leaf(ORDERS, ends=timedelta(seconds=3) * patience()).context(plane.folder, ["h2"])
    session, _ = await asyncio.to_thread(asked, address, context, None)
    async with asyncio.timeout(20 * patience()):
        while await asyncio.to_thread(answer, address, context):  # noqa: ASYNC110 # time has to pass
            await asyncio.sleep(0.1)

    async with plane.noticed("access_refused .*has ended", "proa_refused_calls_total", DENIED.name):
        assert await asyncio.to_thread(asked, address, context, session) == (session, True)


def asked(
    address: Address, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool | None]:
    """A connection on which a stream is opened; the session, and whether it was one of before."""
    fields = {":method": "POST", ":scheme": "https", ":path": METHOD, ":authority": "x", "te": "trailers"}
    texts = [text.encode() for pair in {**fields, "content-type": "application/grpc"}.items() for text in pair]
    each = [bytes([len(text)]) + text for text in texts]
    headers = b"".join(bytes([0]) + name + value for name, value in zip(each[::2], each[1::2], strict=True))
    frame = len(headers).to_bytes(3, "big") + bytes([1, 4, 0, 0, 0, 1]) + headers
    with (
        socket.create_connection((address.host, address.port), timeout=10) as plain,
        context.wrap_socket(plain, session=session) as stream,
    ):
        stream.sendall(PREFACE + frame)
        stream.recv(1024)
        if stream.session_reused:
            with suppress(OSError):
                plain.settimeout(1)
                while stream.recv(1024):
                    pass
        return session or stream.session, stream.session_reused


WITHIN_TLS = {
    "another trust domain": ((ELSEWHERE,), "a certificate of spiffe://elsewhere.local/"),
    "two URI SANs": ((ORDERS, CATALOG), "a certificate of nobody"),
    "no URI SAN": ((), "a certificate of nobody"),
    "the control plane's own name": (("spiffe://proa.local/ns/proa/sa/control-plane",), "may not do that"),
    "a person without a token": (("spiffe://proa.local/role/admin/nobody",), "it has expired or was revoked"),
    "a workload": ((ORDERS,), "may not do that, this needs viewer"),
}


@pytest.mark.parametrize(("uris", "words"), WITHIN_TLS.values(), ids=WITHIN_TLS)
async def test_who_has_no_role_may_not_call_the_api(plane: Plane, uris: tuple[str, ...], words: str) -> None:
    forged = (
        ("x-forwarded-client-cert", f"URI={CATALOG}"),
        ("authorization", "Bearer admin"),
        ("x-proa-role", "admin"),
    )
    async with plane.channel("api", plane.ca.leaf(*uris, dns=["admin"])) as channel:
        for metadata in ((), forged):
            async with plane.noticed(f"access_refused .*{words}", "proa_refused_calls_total", DENIED.name):
                stub: Any = documents_pb2_grpc.DocumentServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
                    await stub.ListDocuments(documents_pb2.ListDocumentsRequest(), metadata=metadata, timeout=10)
                assert caught.value.code() is DENIED


VIEWS = {
    "another workload": ((CATALOG,), "its certificate says spiffe://proa.local/ns/bookstore/sa/catalog, and not"),
    "two URI SANs": ((ORDERS, CATALOG), "its certificate says nothing"),
    "another trust domain": ((ELSEWHERE,), "its certificate says spiffe://elsewhere.local/"),
}


@pytest.mark.parametrize(("uris", "words"), VIEWS.values(), ids=VIEWS)
async def test_the_configuration_of_a_proxy_is_for_nobody_else(plane: Plane, uris: tuple[str, ...], words: str) -> None:
    """At the port of the API those who are no workload of the mesh do not even come so far."""
    refusal = (f"xds_stream_refused .*{words}", "proa_xds_refused_streams_total", "identity")
    for port, noticed in (("xds", refusal), ("api", ("xds_stream_refused|access_refused",))):
        async with plane.channel(port, plane.ca.leaf(*uris)) as channel, plane.noticed(*noticed):
            assert await code_of_view(channel, says=port == "xds" or uris == (CATALOG,)) is DENIED


async def test_a_workload_attaches_no_other(plane: Plane) -> None:
    hello = agents_pb2.Hello(
        **WHO, instance="orders-9", generation="g", addresses=agents_pb2.Addresses(outbound="127.0.0.1:1")
    )
    async with (
        plane.channel("api", plane.ca.leaf(CATALOG)) as channel,
        plane.noticed("call_refused .*may only act for itself", "proa_refused_calls_total", DENIED.name),
    ):
        call: Any = agents_pb2_grpc.AgentServiceStub(channel).Attach(timeout=10)
        await call.write(agents_pb2.AttachRequest(hello=hello))
        assert await call.code() is DENIED


async def test_without_a_certificate_nothing_else_can_be_asked(plane: Plane) -> None:
    async with plane.channel("first contact", None) as channel:
        stub: Any = documents_pb2_grpc.DocumentServiceStub(channel)
        async with plane.noticed("access_refused .*first certificates", "proa_refused_calls_total", DENIED.name):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListDocuments(documents_pb2.ListDocumentsRequest(), timeout=10)
            assert caught.value.code() is DENIED
        assert await code_of_view(channel, says=False) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("port", ["xds", "api", "first contact"])
async def test_what_is_too_large_is_refused(plane: Plane, port: str) -> None:
    """By gRPC itself, which tells nobody but the caller: it is in no count and no log."""
    shown = None if port == "first contact" else plane.ca.leaf(ORDERS)
    large = {"xds": 17 << 20, "api": 18 << 20, "first contact": 129 << 10}[port]
    method = METHOD if port == "xds" else "/proa.v1.AgentService/SignCertificate"
    async with plane.channel(port, shown) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(b"", metadata=(("x-large", "x" * 20_000),), timeout=20)
        assert caught.value.code() is EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(bytes(large), timeout=20)
        assert caught.value.code() is EXHAUSTED
    assert plane.failures == []


async def test_no_log_grows_without_end(plane: Plane) -> None:
    """Whoever can reach a port can have a line written for each connection."""
    log = plane.mesh.state.control_plane_log
    with log.open("a") as more:
        more.write("Handshake failed\n" * (LARGEST // 16))
    await soon(lambda: log.stat().st_size < LARGEST / 2)
    assert log.with_name(f"{log.name}.1").stat().st_size <= LARGEST


SAYS = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_sockets_are_for_their_owner_alone(plane: Plane) -> None:
    folder = plane.mesh.state.run
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    assert len(sockets) == 4
    for path in sockets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        command = [sys.executable, "-I", "-c", SAYS, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert "PermissionError" in done.stderr
