"""The control plane's own certificate, as a handshake shows it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from mesh.identity.credentials import server_credentials
from mesh.model.names import control_plane_identity
from tests.xds.control_plane import ORDERS, ControlPlane, now

LIFETIME = timedelta(hours=1)


class Dialler:
    """A server with these credentials, whose clock is `late`, and handshakes with it."""

    def __init__(self, folder: Path) -> None:
        self.late = timedelta()
        self.port = 0
        self._mesh = ControlPlane()
        key, chain = self._mesh.leaf(ORDERS)
        for name, text in (("key.pem", key), ("chain.pem", chain)):
            (folder / name).write_text(text)
        self._tls = ssl.create_default_context(cadata=self._mesh.authority.bundle_pem)
        self._tls.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self._tls.set_alpn_protocols(["h2"])

    async def start(self) -> grpc.aio.Server:
        server = grpc.aio.server()
        credentials = server_credentials(lambda: self._mesh.authority, self._now, lambda: LIFETIME)
        self.port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        return server

    async def dial(self) -> x509.Certificate:
        """The certificate of the server, which must be valid for `localhost`."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls, server_hostname="localhost")
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(certificate)
        finally:
            writer.transport.abort()

    def _now(self) -> datetime:
        return now() - self.late


@pytest.fixture
async def dialler(tmp_path: Path) -> AsyncIterator[Dialler]:
    dialler = Dialler(tmp_path)
    dialler.late = LIFETIME * 0.7
    server = await dialler.start()
    yield dialler
    await server.stop(None)


async def test_the_control_plane_has_an_identity_of_its_own(dialler: Dialler) -> None:
    leaf = await dialler.dial()

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [control_plane_identity("proa.local").uri]
    assert "localhost" in names.get_values_for_type(x509.DNSName)


async def test_the_certificate_is_renewed_by_the_first_handshake_after_it_is_due(dialler: Dialler) -> None:
    first = await dialler.dial()
    assert (await dialler.dial()).serial_number == first.serial_number

    dialler.late = timedelta()
    second = await dialler.dial()

    assert second.serial_number != first.serial_number
    assert (await dialler.dial()).serial_number == second.serial_number
