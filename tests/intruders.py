"""Certificates of those who should not get in: one thing is wrong with each, and the rest is as a workload's."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = timedelta(hours=1)
ELSEWHERE = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")])
BOTH_SIDES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Credentials:
    """A certificate and its key (PEM)."""

    chain: str
    key: str

    def write(self, folder: Path, name: str = "intruder") -> Path:
        """As one file, which `ssl` reads."""
        path = folder / f"{name}.pem"
        path.write_text(self.chain + self.key)
        return path

    def context(self, folder: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """For a client that shows this certificate and takes whatever the server shows."""
        context = any_server(alpn)
        context.load_cert_chain(self.write(folder))
        return context


@dataclass(frozen=True)
class Authority:
    """Somebody who signs."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def of_mesh(cls, state: Path) -> Self:
        """That of a mesh that runs in the state folder `state`, as a thief of its key would have it."""
        [key] = (state / "ca").glob("*/tls.key")
        return cls.read(key.parent)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From `tls.key` and `tls.crt`."""
        key = load_pem_private_key((folder / "tls.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key, x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes()))

    @classmethod
    def of(cls, stolen: Credentials) -> Self:
        """Somebody who signs with what is not for signing: the leaf of a workload."""
        key = load_pem_private_key(stolen.key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key, x509.load_pem_x509_certificate(stolen.chain.encode()))

    @classmethod
    def foreign(cls, like: x509.Certificate | None = None) -> Self:
        """One that the mesh has never heard of, under the very name of the certificate `like`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = like.subject if like else ELSEWHERE
        certificate = (
            _builder(name, name, key.public_key(), -HOUR, HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def forged(self, signer: str, uri: str) -> Credentials:
        """A leaf for `uri` that the workload `signer` has signed, with the leaf of that behind it."""
        own = self.leaf(signer)
        forged = Authority.of(own).leaf(uri)
        return replace(forged, chain=forged.chain + own.chain)

    def leaf(
        self, *uris: str, begins: timedelta = -HOUR, ends: timedelta = HOUR, dns: Sequence[str] = ()
    ) -> Credentials:
        """A leaf with these URI SANs, valid between two times as seen from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        # A certificate whose issuer has its own name would be taken for one that signed itself.
        nobody = x509.Name([]) if self.certificate.subject.rdns else ELSEWHERE
        builder = _builder(nobody, self.certificate.subject, key.public_key(), begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        leaf = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(BOTH_SIDES, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Credentials(leaf.public_bytes(Encoding.PEM).decode(), pem)


def any_server(alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """For a client without a certificate that takes whatever the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
