"""One generation of an authority: a key, its certificate, and the roots above it, in files like cert-manager's."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from mesh.errors import StateError
from mesh.identity.ca import SigningKey, new_root, pem
from mesh.identity.certificates import is_signed_by, may_sign

KEY: Final = "tls.key"
CHAIN: Final = "tls.crt"
ROOTS: Final = "ca.crt"

SMALLEST_RSA: Final = 2048


@dataclass(frozen=True, slots=True)
class Generation:
    """`chain` begins with the certificate of `key`, which is what is wrong with the key when it cannot be used."""

    key: SigningKey | StateError = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @property
    def id(self) -> str:
        """A digest of its certificates."""
        return hashlib.sha256("".join(map(pem, (*self.chain, *self.roots))).encode()).hexdigest()[:16]

    @property
    def files(self) -> Mapping[str, bytes]:
        """Raises StateError without a key."""
        if isinstance(self.key, StateError):
            raise self.key
        return {
            KEY: self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            CHAIN: "".join(map(pem, self.chain)).encode(),
            ROOTS: "".join(map(pem, self.roots)).encode(),
        }


def made(trust_domain: str, now: datetime) -> Generation:
    """A root of our own."""
    key, root = new_root(trust_domain, now)
    return Generation(key, (root,), (root,))


def read(folder: Path, remedy: str, *, lost_key: str, others: int = 0o077) -> Generation:
    """What is in `folder`; in the place of a key that cannot be used is what is wrong with it.

    Bits of `others` must not be set in the mode of the key. Raises StateError when the certificates cannot be used,
    with `remedy`; that of the key is `lost_key`.
    """
    chain, roots = (_certificates(folder / name, remedy) for name in (CHAIN, ROOTS))
    if why := _why_not(chain, roots):
        raise StateError(str(folder / CHAIN), why, remedy)
    chain = (chain[0], *(one for one in chain[1:] if one not in roots))
    return Generation(_key(folder / KEY, chain[0], lost_key, others), chain, roots)


def _key(path: Path, certificate: x509.Certificate, remedy: str, others: int) -> SigningKey | StateError:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        return StateError(str(path), f"the authority's private key cannot be read ({error.strerror})", remedy)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return StateError(str(path), "the authority's private key is not readable as PEM", remedy)
    if mode & others:
        protect = f"Run `chmod 600 {path}`, and exchange it if somebody may have read it"
        return StateError(str(path), f"others may read or write the authority's private key (mode {mode:04o})", protect)
    if key.public_key() != certificate.public_key():
        return StateError(str(path), "the private key does not belong to the authority's certificate", remedy)
    match key:
        case ec.EllipticCurvePrivateKey():
            return key
        case rsa.RSAPrivateKey(key_size=size) if size >= SMALLEST_RSA:
            return key
    return StateError(str(path), "the authority's key is neither an elliptic-curve nor an RSA key of 2048 bits", remedy)


def _certificates(path: Path, remedy: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise StateError(str(path), f"the authority cannot be read ({error.strerror})", remedy) from error
    except ValueError as error:
        raise StateError(str(path), "this is not readable as certificates (PEM)", remedy) from error


def _why_not(chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]) -> str:
    """Why leaves below this chain would be trusted by nobody, "" when they would."""
    for one in {*chain, *roots}:
        if not may_sign(one):
            return "its certificate is not that of an authority"
    if chain[0] in roots:
        return ""
    for below, above in zip(chain, (*chain[1:], None), strict=True):
        if any(is_signed_by(below, root) for root in roots):
            return ""
        if above is None or not is_signed_by(below, above):
            break
    return f"its certificates do not lead to a root in {ROOTS}"
