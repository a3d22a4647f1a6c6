"""The control plane's clock jumps, ahead and back: handshakes, first certificates and renewals go on."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from mesh.api.proa.v1 import agents_pb2
from mesh.controlplane import main
from mesh.identity.key import new_key, signature_by
from tests.controlplane.authority import Mesh, dialled, serving, shakes_hands
from tests.controlplane.conftest import Open
from tests.intruders import any_server
from tests.unit.registry.builders import workload


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the clock is off; what is put into it counts at once."""
    by = [timedelta()]
    monkeypatch.setattr(main, "_now", lambda: datetime.now(UTC) + by[0])
    return by


async def shown(mesh: Mesh) -> x509.Certificate:
    """What the control plane shows to whoever connects."""
    _, writer = await dialled(mesh.xds, any_server(["h2"]))
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    writer.transport.abort()
    assert der
    return x509.load_der_x509_certificate(der)


async def renewed(mesh: Mesh, key: str, signed: agents_pb2.SignCertificateResponse) -> x509.Certificate:
    new = new_key()
    renewal = agents_pb2.Renewal(chain_pem=signed.chain_pem, signature=signature_by(signed.chain_pem, key, new.csr))
    request = agents_pb2.SignCertificateRequest(namespace="shop", workload="orders", csr=new.csr, renewal=renewal)
    answer = await mesh.client.agents.SignCertificate(request)
    return x509.load_pem_x509_certificate(answer.chain_pem.encode())


@pytest.mark.parametrize("hours", [20, 40, 24 * 365, -1, -24 * 30])
async def test_a_clock_that_jumps_stops_nothing_and_overwrites_nothing(opened: Open, tmp_path, xds, off, hours):
    by = timedelta(hours=hours)
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        key, signed = await mesh.sign()
        root, before = await mesh.authority(), await shown(mesh)
        off[0] = by

        after = await shown(mesh)
        assert after.serial_number != before.serial_number, "what it shows fits the clock as it is now"
        assert after.not_valid_before_utc <= datetime.now(UTC) + by < after.not_valid_after_utc
        assert after.not_valid_after_utc - before.not_valid_after_utc >= by - timedelta(minutes=1)
        first = x509.load_pem_x509_certificate((await mesh.sign())[1].chain_pem.encode())
        assert first.not_valid_before_utc <= datetime.now(UTC) + by < first.not_valid_after_utc
        if 0 < hours < 24:
            assert (await renewed(mesh, key, signed)).not_valid_after_utc > before.not_valid_after_utc

        off[0] = timedelta()
        assert await shakes_hands(mesh, *await mesh.sign())
        assert (await renewed(mesh, key, signed)).not_valid_after_utc >= before.not_valid_after_utc
        assert [one.serial for one in (await mesh.authority()).certificates] == [
            one.serial for one in root.certificates
        ], "nothing is overwritten"
