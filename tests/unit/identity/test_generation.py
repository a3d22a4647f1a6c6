"""Files of somebody else's authority: what can be used, and what is wrong with what cannot."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from mesh.errors import StateError
from mesh.identity import generation
from mesh.identity.ca import CertificateAuthority
from mesh.identity.generation import Generation
from mesh.identity.key import new_key
from mesh.model.names import Identity
from tests.unit.identity.authorities import Ca

ROOT = Ca("root")
MIDDLE = Ca("middle", ROOT)


def read(folder: Path) -> Generation:
    return generation.read(folder, "Mend it", lost_key="Mend the key", others=0o007)


def signed_by(found: Generation) -> list[x509.Certificate]:
    """The chain of a leaf."""
    assert not isinstance(found.key, StateError)
    authority = CertificateAuthority(
        found.key, found.chain[0], intermediates=found.chain[1:], roots=found.roots, trust_domain="proa.local"
    )
    leaf = authority.issue(new_key().csr, Identity("proa.local", "shop", "orders"), (), datetime.now(UTC))
    return x509.load_pem_x509_certificates(leaf.chain_pem.encode())


@pytest.mark.parametrize(
    ("authority", "between"),
    [
        pytest.param(ROOT, 0, id="a root"),
        pytest.param(MIDDLE, 1, id="an intermediate"),
        pytest.param(Ca("low", MIDDLE), 2, id="one below another"),
        pytest.param(Ca("rsa", ROOT, key=rsa.generate_private_key(65537, 2048)), 1, id="with an RSA key"),
    ],
)
def test_a_leaf_brings_along_what_leads_to_the_root_and_not_the_root(
    authority: Ca, between: int, tmp_path: Path
) -> None:
    found = read(authority.write(tmp_path / "ca"))
    chain = signed_by(found)

    assert len(chain) == 1 + between
    for below, above in zip(chain, [*chain[1:], ROOT.certificate], strict=True):
        below.verify_directly_issued_by(above)
    assert found.roots == (ROOT.certificate,)


def test_a_root_at_the_end_of_the_chain_is_not_sent_to_peers(tmp_path: Path) -> None:
    found = read(MIDDLE.write(tmp_path / "ca", chain=MIDDLE.pem + ROOT.pem))

    assert len(signed_by(found)) == 2


def test_a_leaf_never_outlives_what_signed_it(tmp_path: Path) -> None:
    short = Ca("short", ROOT, days=1)
    (leaf, _) = signed_by(read(short.write(tmp_path / "ca")))

    assert leaf.not_valid_after_utc == short.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("chain", "roots", "words"),
    [
        pytest.param(b"nonsense", b"", r"tls\.crt: this is not readable", id="no PEM"),
        pytest.param(b"", b"nonsense", r"ca\.crt: this is not readable", id="no PEM for the root"),
        pytest.param(b"", Ca("other").pem, "do not lead to a root", id="the root of another"),
        pytest.param(Ca("low", MIDDLE).pem, ROOT.pem, "do not lead to a root", id="one is missing in between"),
        pytest.param(Ca("leaf", ROOT, ca=False).pem, ROOT.pem, "not that of an authority", id="a leaf"),
    ],
)
def test_certificates_that_lead_nowhere_are_refused(chain: bytes, roots: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=f"{words}.*Mend it"):
        read(MIDDLE.write(tmp_path / "ca", chain, roots))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda key: key.unlink(), "cannot be read", id="lost"),
        pytest.param(lambda key: key.write_bytes(Ca("other").key_pem), "does not belong", id="of another"),
        pytest.param(lambda key: key.chmod(0o644), "others may read", id="mounted for all to read"),
        pytest.param(
            lambda key: key.write_bytes(Ca("small", key=rsa.generate_private_key(65537, 1024)).key_pem),
            "does not belong",
            id="small",
        ),
    ],
)
def test_a_key_that_cannot_be_used_says_why(spoil: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    folder = MIDDLE.write(tmp_path / "ca")
    spoil(folder / "tls.key")

    key = read(folder).key

    assert isinstance(key, StateError)
    assert words in str(key)
    assert "PRIVATE" not in repr(read(folder))


def test_a_small_key_is_not_used(tmp_path: Path) -> None:
    key = read(Ca("small", key=rsa.generate_private_key(65537, 1024)).write(tmp_path / "ca")).key

    assert "neither" in str(key)


def test_a_group_may_read_the_key_where_files_are_mounted_so(tmp_path: Path) -> None:
    folder = MIDDLE.write(tmp_path / "ca")
    (folder / "tls.key").chmod(0o640)

    assert not isinstance(read(folder).key, StateError)
