"""The proof that comes with a renewal: a certificate of the mesh that has not ended, and a signature by its key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.errors import AccessError
from mesh.identity.ca import serial
from mesh.identity.certificates import is_signed_by, is_valid, may_sign, uris

LONGEST_CHAIN: Final = 5
LARGEST_CHAIN: Final = 64 * 1024
"""Characters. It comes from whoever can reach the API."""

REMEDY: Final = "Join again with a new token: proa token create"


def proven(chain_pem: str, signature: bytes, csr: bytes, roots: Sequence[x509.Certificate], now: datetime) -> str:
    """The SPIFFE id of whoever holds the key of this chain's leaf, and has signed `csr` with it.

    Raises AccessError when one of `roots` has not signed it, it is not valid `now`, or the signature is another's.
    """
    chain = _read(chain_pem)
    if not _leads_to(chain, roots, now):
        raise _refused("it is not of this mesh, or has ended")
    key = chain[0].public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise _refused("its key is not an elliptic-curve key")
        key.verify(signature, csr, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _refused("whoever sent it does not have its key") from None
    return spiffe_id(chain[0])


def leaf_serial(chain_pem: str) -> str:
    """As Envoy shows it. Raises AccessError."""
    return serial(_read(chain_pem)[0])


def spiffe_id(leaf: x509.Certificate) -> str:
    """Its only URI, "" when it has none or several."""
    found = uris(leaf)
    return found[0] if len(found) == 1 else ""


def _read(chain_pem: str) -> tuple[x509.Certificate, ...]:
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode()) if len(chain_pem) <= LARGEST_CHAIN else []
    except ValueError:
        chain = []
    if not 0 < len(chain) <= LONGEST_CHAIN:
        raise _refused("it cannot be read")
    return tuple(chain)


def _leads_to(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime) -> bool:
    """Each is signed by the next, which may sign; one of them by a root; all are valid up to there."""
    for below, above in zip(chain, (*chain[1:], None), strict=True):
        if not is_valid(below, now):
            return False
        if any(is_signed_by(below, root) and is_valid(root, now) for root in roots):
            return True
        if above is None or not may_sign(above) or not is_signed_by(below, above):
            return False
    return False


def _refused(why: str) -> AccessError:
    return AccessError("the certificate to be renewed", why, REMEDY)
