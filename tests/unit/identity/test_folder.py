"""The authority of a state folder: made once, kept, and not used when something is wrong with it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from mesh.errors import StateError
from mesh.identity.folder import open_authority

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an authority that was made at noon."""
    open_authority(tmp_path / "ca", "proa.local", NOON)
    return tmp_path / "ca"


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    first = open_authority(tmp_path / "ca", "proa.local", NOON)
    second = open_authority(tmp_path / "ca", "proa.local", NOON + timedelta(days=1))

    assert first.bundle_pem == second.bundle_pem
    assert second.trust_domain == "proa.local"


def test_nobody_else_may_read_the_key(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "root.key").stat().st_mode & 0o777 == 0o600


def test_an_empty_folder_and_the_rest_of_a_start_that_broke_off_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca.new").mkdir()
    (tmp_path / "ca.new" / "root.key").write_text("half")

    open_authority(tmp_path / "ca", "proa.local", NOON)

    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_a_key_that_others_may_read_is_refused_with_what_to_do(folder: Path) -> None:
    (folder / "root.key").chmod(0o644)

    with pytest.raises(StateError, match=r"mode 0644.*chmod 600"):
        open_authority(folder, "proa.local", NOON)


@pytest.mark.parametrize("name", ["root.key", "root.pem"])
def test_half_an_authority_is_not_replaced_by_a_new_one(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(StateError, match=rf"{name}.*cannot be read"):
        open_authority(folder, "proa.local", NOON)


@pytest.mark.parametrize("name", ["root.key", "root.pem"])
def test_what_is_not_pem_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("not PEM")

    with pytest.raises(StateError, match="not readable as PEM"):
        open_authority(folder, "proa.local", NOON)


def test_the_key_of_another_root_is_refused(folder: Path, tmp_path: Path) -> None:
    open_authority(tmp_path / "other", "proa.local", NOON)
    (tmp_path / "other" / "root.key").replace(folder / "root.key")

    with pytest.raises(StateError, match="does not belong"):
        open_authority(folder, "proa.local", NOON)


def test_a_root_that_somebody_else_made_is_refused_when_it_says_no_trust_domain(folder: Path) -> None:
    key = load_pem_private_key((folder / "root.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([])
    foreign = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOON)
        .not_valid_after(NOON + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "root.pem").write_bytes(foreign.public_bytes(Encoding.PEM))

    with pytest.raises(StateError, match="does not say its trust domain"):
        open_authority(folder, "proa.local", NOON)


def test_an_expired_root_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match="expired"):
        open_authority(folder, "proa.local", NOON + timedelta(days=4_000))


def test_another_trust_domain_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match=r"trust domain proa\.local, not other\.local"):
        open_authority(folder, "other.local", NOON)


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="cannot be read or made"):
        open_authority(tmp_path / "file" / "ca", "proa.local", NOON)
