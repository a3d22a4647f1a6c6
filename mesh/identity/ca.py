"""The certificate authority of a mesh: what signs its leaves, and the roots that everyone trusts."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.errors import IdentityError, StateError
from mesh.identity.certificates import extension, uris
from mesh.identity.renewal import renewal_time
from mesh.model.names import Identity, Person, trust_domain_prefix

LEAF_LIFETIME: Final = timedelta(hours=24)
ROOT_LIFETIME: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(minutes=5)
"""Clocks of two machines differ."""
BOTH_SIDES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
"""A workload calls and is called."""


SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Leaf:
    """`chain_pem` begins with the leaf; its root is not in it."""

    chain_pem: str
    not_after: datetime
    renew_at: datetime
    serial: str


class CertificateAuthority:
    """Signs for one trust domain, and says whom to trust. It never changes: a rotation goes from one to the next.

    `certificate` is that of `key`: a root, or what `intermediates` lead from to a root. `roots` are all that are
    trusted, in the order in which they are told; only `certificate` when none are given. `key` may be what is wrong
    with it. `chance` spreads the renewals, as a number from 0 up to 1 for each leaf.
    """

    def __init__(
        self,
        key: SigningKey | StateError,
        certificate: x509.Certificate,
        chance: Callable[[], float] = random.random,
        *,
        intermediates: Sequence[x509.Certificate] = (),
        roots: Sequence[x509.Certificate] = (),
        trust_domain: str = "",
        issuer: str = "",
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._chance = chance
        self._intermediates = tuple(intermediates)
        self.trust_domain = trust_domain or trust_domain_of(certificate)
        self.roots = tuple(roots) or (certificate,)
        self.issuer = issuer or serial(certificate)
        """What signs: a name for programs."""

    @property
    def bundle_pem(self) -> str:
        """The roots that everyone in the mesh trusts."""
        return "".join(pem(root) for root in self.roots)

    @property
    def problem(self) -> StateError | None:
        """Why it cannot sign, None when it can."""
        return StateError(*_parts(self._key)) if isinstance(self._key, StateError) else None

    def issue(
        self,
        csr_der: bytes,
        identity: Identity | Person,
        dns_names: Iterable[str],
        now: datetime,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> Leaf:
        """A leaf for the key in the request, which must be a P-256 key that has signed it; nothing else in it counts.

        Valid from five minutes before `now`, and never longer than what signs it. Raises IdentityError for a request
        that cannot be signed and an identity of another trust domain, StateError when there is no key to sign with.
        """
        if isinstance(self._key, StateError):
            raise StateError(*_parts(self._key))
        if identity.trust_domain != self.trust_domain:
            problem = f"this authority signs for the trust domain {self.trust_domain} only"
            raise IdentityError(identity.uri, problem, "Use the trust domain that the mesh was first started with")
        ends = min(one.not_valid_after_utc for one in (self._certificate, *self._intermediates))
        not_after = min((now + lifetime).replace(microsecond=0), ends)
        key = public_key(csr_der, identity.uri)
        names = [x509.UniformResourceIdentifier(identity.uri), *(x509.DNSName(name) for name in dns_names)]
        leaf = (
            _unsigned(key, x509.Name([]), self._certificate.subject, now - BACKDATED, not_after)
            # Critical because the subject is empty (RFC 5280, 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(BOTH_SIDES), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_id), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        renew_at = renewal_time(now, not_after - now, self._chance())
        chain = "".join(pem(one) for one in (leaf, *self._sent))
        return Leaf(chain, not_after, renew_at, serial(leaf))

    @property
    def _sent(self) -> tuple[x509.Certificate, ...]:
        """What a peer needs between the leaf and a root that it trusts."""
        return () if self._certificate in self.roots else (self._certificate, *self._intermediates)

    @property
    def _key_id(self) -> x509.SubjectKeyIdentifier:
        said = extension(self._certificate, x509.SubjectKeyIdentifier)
        return said or x509.SubjectKeyIdentifier.from_public_key(self._certificate.public_key())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def serial(certificate: x509.Certificate) -> str:
    """As Envoy shows it."""
    return f"{certificate.serial_number:x}"


def trust_domain_of(root: x509.Certificate) -> str:
    """Empty for a root that Proa has not made."""
    return next(iter(uris(root)), "").removeprefix("spiffe://")


def _parts(error: StateError) -> tuple[str, str, str]:
    return error.where, error.problem, error.remedy


def new_root(trust_domain: str, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key and its own certificate.

    No two roots share a name or a key identifier: verifiers choose the issuer by these when a bundle holds several.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Proa CA {key_id.digest.hex()[:16]}")])
    uri = x509.UniformResourceIdentifier(trust_domain_prefix(trust_domain).removesuffix("/"))
    root = (
        _unsigned(key.public_key(), name, name, now - BACKDATED, now + ROOT_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, root


def _unsigned(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def public_key(csr_der: bytes, asker: str) -> ec.EllipticCurvePublicKey:
    """The key in a request, a P-256 key that has signed it. Raises IdentityError for any other request."""
    remedy = "Send a PKCS#10 request (DER) with a P-256 key, signed by that key"
    try:
        request = x509.load_der_x509_csr(csr_der)
        key, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(asker, "its certificate request cannot be read", remedy) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(asker, "the key in its certificate request is not a P-256 key", remedy)
    if not is_signed:
        raise IdentityError(asker, "its certificate request is not signed by the key in it", remedy)
    return key
