"""Envoy's own word on everything that `translate` makes."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.agent.envoy import find
from mesh.translate.secret import leaf_secret, roots_secret
from tests.unit.translate.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def sds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory for Envoy with the two files of its secrets."""
    folder = tmp_path_factory.mktemp("sds")
    chain, key = _self_signed()
    (folder / "sds" / "current").mkdir(parents=True)
    (folder / "sds/current/id.json").write_text(leaf_secret(chain, key))
    (folder / "sds/current/roots.json").write_text(roots_secret(chain))
    return folder


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_envoy_accepts_the_configuration(scenario: Scenario, sds: Path) -> None:
    (sds / "config.json").write_text(json.dumps(scenario.static()))

    command = [str(find().path), "--mode", "validate", "-c", "config.json", "--disable-hot-restart"]
    checked = subprocess.run(command, cwd=sds, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr[-2000:]


def test_envoy_refuses_what_is_wrong_so_that_the_test_above_can_fail(sds: Path) -> None:
    config = SCENARIOS["grpc"].static()
    config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["name"] = ""
    (sds / "config.json").write_text(json.dumps(config))

    command = [str(find().path), "--mode", "validate", "-c", "config.json", "--disable-hot-restart"]
    assert subprocess.run(command, cwd=sds, capture_output=True, check=False).returncode == 1


def _self_signed() -> tuple[str, str]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    nobody = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    certificate = (
        x509.CertificateBuilder(nobody, nobody, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), private.decode()
