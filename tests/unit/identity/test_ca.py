"""What a leaf says, and what is not signed."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.errors import IdentityError
from mesh.identity.ca import CertificateAuthority, new_root
from mesh.identity.key import new_key
from mesh.identity.renewal import renewal_time
from mesh.model.names import Identity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ORDERS = Identity("proa.local", "shop", "orders")


def an_authority(chance: float = 0.5) -> CertificateAuthority:
    return CertificateAuthority(*new_root("proa.local", NOON), chance=lambda: chance)


def a_leaf(authority: CertificateAuthority, *dns_names: str, lifetime: timedelta = DAY) -> x509.Certificate:
    chain = authority.issue(new_key().csr, ORDERS, dns_names, NOON, lifetime).chain_pem
    return x509.load_pem_x509_certificate(chain.encode())


def root_of(authority: CertificateAuthority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.bundle_pem.encode())


def test_a_leaf_is_signed_by_the_root() -> None:
    authority = an_authority()

    a_leaf(authority).verify_directly_issued_by(root_of(authority))


def test_the_spiffe_id_is_the_only_uri_and_the_subject_is_empty() -> None:
    leaf = a_leaf(an_authority(), "localhost")

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [ORDERS.uri]
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert leaf.subject == x509.Name([])


def test_a_leaf_is_for_both_sides_of_tls_and_for_nothing_else() -> None:
    extensions = a_leaf(an_authority()).extensions

    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }


def test_a_leaf_names_the_key_that_signed_it() -> None:
    authority = an_authority()

    signer = a_leaf(authority).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier

    assert signer == root_of(authority).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_no_two_roots_share_a_name_or_a_key_identifier() -> None:
    one, other = root_of(an_authority()), root_of(an_authority())

    assert one.subject != other.subject
    assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0, (
        "leaves, and no authority"
    )
    assert (
        one.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        != other.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )


def test_a_leaf_begins_five_minutes_ago_and_ends_after_its_lifetime() -> None:
    leaf = a_leaf(an_authority())

    assert leaf.not_valid_before_utc == NOON - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOON + DAY


def test_a_leaf_does_not_outlive_its_root() -> None:
    authority = an_authority()

    leaf = a_leaf(authority, lifetime=timedelta(days=36_500))

    assert leaf.not_valid_after_utc == root_of(authority).not_valid_after_utc


@pytest.mark.parametrize(
    ("chance", "hours"), [(0, 9.6), (0.5, 12), (1, 14.4)], ids=["the earliest", "in between", "the latest"]
)
def test_a_leaf_is_renewed_at_about_half_of_its_life(chance: float, hours: float) -> None:
    assert renewal_time(NOON, DAY, chance) == NOON + timedelta(hours=hours)
    assert an_authority(chance).issue(new_key().csr, ORDERS, [], NOON).renew_at == NOON + timedelta(hours=hours)


def test_the_key_of_the_leaf_is_that_of_the_request() -> None:
    key, authority = new_key(), an_authority()

    leaf = authority.issue(key.csr, ORDERS, [], NOON)

    private = load_pem_private_key(key.pem.encode(), password=None)
    assert x509.load_pem_x509_certificate(leaf.chain_pem.encode()).public_key() == private.public_key()


def test_the_names_in_a_request_do_not_count() -> None:
    forged = x509.UniformResourceIdentifier("spiffe://proa.local/ns/proa-system/sa/control-plane")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        .add_extension(x509.SubjectAlternativeName([forged]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )

    chain = an_authority().issue(request.public_bytes(Encoding.DER), ORDERS, [], NOON).chain_pem

    leaf = x509.load_pem_x509_certificate(chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [ORDERS.uri]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.subject == x509.Name([])


def request_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def with_another_signature(request_der: bytes) -> bytes:
    return request_der[:-1] + bytes([request_der[-1] ^ 1])


@pytest.mark.parametrize(
    ("request_der", "words"),
    [
        pytest.param(b"", "cannot be read", id="nothing"),
        pytest.param(b"\x30\x03\x02\x01\x00", "cannot be read", id="other bytes"),
        pytest.param(request_of(ec.generate_private_key(ec.SECP384R1())), "not a P-256 key", id="P-384"),
        pytest.param(request_of(rsa.generate_private_key(65537, 2048)), "not a P-256 key", id="RSA"),
        pytest.param(with_another_signature(new_key().csr), "not signed", id="a signature that does not fit"),
    ],
)
def test_a_request_that_cannot_be_signed_is_refused(request_der: bytes, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        an_authority().issue(request_der, ORDERS, [], NOON)


def test_an_identity_of_another_trust_domain_is_not_signed() -> None:
    with pytest.raises(IdentityError, match=r"proa\.local only"):
        an_authority().issue(new_key().csr, Identity("other.local", "shop", "orders"), [], NOON)


def test_a_key_is_not_shown() -> None:
    key = new_key()

    assert "PRIVATE" in key.pem
    assert "PRIVATE" not in repr(key)
