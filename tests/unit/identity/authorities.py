"""Authorities of somebody else, as files in the layout of cert-manager."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Ca:
    """A certificate of an authority and its key. Without `above` it is a root."""

    def __init__(
        self,
        name: str,
        above: "Ca | None" = None,
        *,
        key: Any = None,
        days: int = 30,
        since: datetime | None = None,
        ca: bool = True,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.above = above
        began = since or datetime.now(UTC) - timedelta(minutes=5)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            x509.CertificateBuilder(above.certificate.subject if above else subject, subject, self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(above.key if above else self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, chain: bytes = b"", roots: bytes = b"") -> Path:
        """As cert-manager does: the certificate, those above it but for the root, and the root apart."""
        folder.mkdir(parents=True, exist_ok=True)
        above, between = self.above, b""
        while above and above.above:
            between, above = between + above.pem, above.above
        files = {
            "tls.crt": chain or self.pem + between,
            "tls.key": self.key_pem,
            "ca.crt": roots or (above or self).pem,
        }
        for name, content in files.items():
            new = folder / f"{name}.new"
            new.write_bytes(content)
            new.chmod(0o600)
            new.replace(folder / name)
        return folder
