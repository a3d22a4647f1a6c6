"""Leaves of a minute: what is in them, and that they are renewed, also when the control plane was away for too long."""

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.mesh.certificates.calls import calling, in_use
from tests.mesh.conftest import changed
from tests.mesh.running import RunningMesh, documents, soon, start, wait_until_ready

pytestmark = pytest.mark.envoy

MINUTE = timedelta(seconds=60)
SHORT = {"apiVersion": "proa.mesh/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}}


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """The bookstore with leaves of a minute."""
    folder = tmp_path_factory.mktemp("minute")
    file = changed(folder / "mesh.yaml")
    short = documents({**SHORT, "spec": {"certificates": {"leafLifetime": "60s"}}})
    file.write_text(f"{file.read_text()}\n---\n{short}")
    mesh = start(folder / "state", file)
    try:
        wait_until_ready(mesh)
        yield mesh
    finally:
        mesh.end()


def leaf_of(mesh: RunningMesh, instance: str) -> x509.Certificate:
    """As it is beside its Envoy."""
    secret = mesh.state.folder / "instances" / f"bookstore.{instance}" / "sds" / "current" / "id.json"
    (resource,) = json.loads(secret.read_text())["resources"]
    (leaf,) = x509.load_pem_x509_certificates(
        resource["tls_certificate"]["certificate_chain"]["inline_string"].encode()
    )
    return leaf


def test_a_leaf_says_who_the_workload_is_and_no_more(minute: RunningMesh) -> None:
    leaf = leaf_of(minute, "orders-0")

    def value(kind: Any) -> Any:
        return leaf.extensions.get_extension_for_class(kind).value

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == ["spiffe://proa.local/ns/bookstore/sa/orders"]
    assert names.critical
    assert leaf.subject == x509.Name([])
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    usage = value(x509.KeyUsage)
    allowed = ("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    assert [one for one in allowed if getattr(usage, one)] == ["digital_signature"]
    assert {*value(x509.ExtendedKeyUsage)} == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not value(x509.BasicConstraints).ca
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert abs(lifetime - MINUTE - timedelta(minutes=5)) <= timedelta(seconds=1), "backdated by five minutes"
    assert leaf.not_valid_after_utc - datetime.now(UTC) <= MINUTE
    minute.remember()


def test_keys_are_beside_the_workload_alone(minute: RunningMesh) -> None:
    """Of the files of the control plane none has the key of a leaf, and those of the agent are its owner's."""
    folder = minute.state.folder
    keys = [path for path in folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]

    assert {path.relative_to(folder).parts[0] for path in keys} == {"ca", "instances"}
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert b"PRIVATE KEY" not in b"".join(path.read_bytes() for path in (folder / "logs").iterdir())
    minute.remember()


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.environ.get("PROA_EFFORT", "1") == "1", reason="takes two minutes: make test-long")
async def test_a_control_plane_that_is_away_past_half_of_their_life_is_missed_by_no_call(
    minute: RunningMesh, short: Path
) -> None:
    mesh = minute
    log = mesh.state.log("bookstore", "orders-0", "agent")
    first = in_use(mesh)[1]
    async with calling(mesh, short) as (calls, _):
        frozen = mesh.file["control_plane"]["pid"]
        os.kill(frozen, signal.SIGSTOP)
        await soon(lambda: "certificate_not_renewed" in log.read_text(), within=60)
        assert in_use(mesh)[1] == first
        await calls.went_on(100)
        os.kill(frozen, signal.SIGCONT)
        await soon(lambda: not in_use(mesh)[1] & first, within=20)
        # And once more, when those that were first have ended.
        second = in_use(mesh)[1]
        await soon(lambda: not in_use(mesh)[1] & second, within=60)
        await calls.went_on(100)
    mesh.remember()
