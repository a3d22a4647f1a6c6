"""The certificate authority of a state folder: made at the first start, and kept."""

import os
import random
import shutil
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from mesh.errors import StateError
from mesh.identity.ca import CertificateAuthority, new_root

KEY: Final = "root.key"
ROOT: Final = "root.pem"

START_OVER: Final = "Restore it, or remove the folder to start with a new authority (and restart all instances)"


def open_authority(
    folder: Path, trust_domain: str, now: datetime, chance: Callable[[], float] = random.random
) -> CertificateAuthority:
    """The authority kept in `folder`; if there is none, a new one, which is there as a whole or not at all.

    Only one process may do this at a time. Raises StateError when the folder cannot be used, with what to do.
    """
    try:
        if not folder.exists() or not any(folder.iterdir()):
            _make(folder, trust_domain, now)
        key, root = _read(folder)
    except OSError as error:
        where = str(error.filename or folder)
        raise StateError(where, f"the authority cannot be read or made ({error.strerror})", START_OVER) from error
    try:
        authority = CertificateAuthority(key, root, chance)
    except x509.ExtensionNotFound as error:
        raise StateError(str(folder / ROOT), "the root does not say its trust domain", START_OVER) from error
    if root.not_valid_after_utc <= now:
        raise StateError(str(folder / ROOT), "the root has expired", START_OVER)
    if authority.trust_domain != trust_domain:
        problem = f"the authority is that of the trust domain {authority.trust_domain}, not {trust_domain}"
        raise StateError(str(folder), problem, "Keep the trust domain, or choose another state folder")
    return authority


def _make(folder: Path, trust_domain: str, now: datetime) -> None:
    key, root = new_root(trust_domain, now)
    # Left by a start that did not come to its end.
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _write(new / KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _write(new / ROOT, root.public_bytes(Encoding.PEM))
    new.rename(folder)
    _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    _check_private(folder / KEY)
    try:
        key = load_pem_private_key((folder / KEY).read_bytes(), password=None)
        root = x509.load_pem_x509_certificate((folder / ROOT).read_bytes())
        is_pair = key.public_key() == root.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StateError(str(folder), "the key or the root is not readable as PEM", START_OVER) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_pair:
        raise StateError(str(folder), "the key does not belong to the root", START_OVER)
    return key, root


def _check_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        remedy = f"Run `chmod 600 {path}`, or remove {path.parent} if somebody may have read it"
        raise StateError(str(path), f"others may read or write the authority's private key (mode {mode:04o})", remedy)
