"""A workload's private key. It is made where the workload runs and never leaves it.

Imported by every agent: it loads as little as it can.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True)
class Key:
    """`pem` is the private key (PKCS#8), `csr` the request (PKCS#10, DER) to have it signed."""

    pem: str = field(repr=False)
    csr: bytes


def new_key() -> Key:
    """A new P-256 key. The request has no names: the authority knows who asks, and only the key in it counts."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Key(pem.decode(), request.public_bytes(serialization.Encoding.DER))


def signature_by(chain_pem: str, key_pem: str, content: bytes) -> bytes:
    """ECDSA with SHA-256, by the key (PEM) of a leaf; b"" when the leaf has ended, or it cannot be used."""
    try:
        leaf, key = x509.load_pem_x509_certificate(chain_pem.encode()), key_pem.encode()
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        return b""
    if leaf.not_valid_after_utc <= datetime.now(UTC) or not isinstance(private, ec.EllipticCurvePrivateKey):
        return b""
    return private.sign(content, ec.ECDSA(hashes.SHA256()))
