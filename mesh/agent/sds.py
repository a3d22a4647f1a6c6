"""The files from which Envoy reads its certificate and the roots it trusts."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from mesh.model.names import LEAF_SECRET, ROOTS_SECRET
from mesh.translate.secret import leaf_secret, roots_secret

CURRENT: Final = "current"


def write_secrets(folder: Path, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None:
    """Puts both secrets under `folder/current`, which Envoy watches, by one rename.

    Envoy never sees one without the other: `current` is a link to a folder that holds both. The folder before it is
    kept, since Envoy may be reading it; older ones go.
    """
    files = {LEAF_SECRET: leaf_secret(chain_pem, key_pem), ROOTS_SECRET: roots_secret(bundle_pem)}
    version = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _current(folder)
    if before == version:
        return
    _write_version(folder / version, files)
    link = folder / f"{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(folder / CURRENT)
    for old in folder.iterdir():
        if old.name not in (CURRENT, version, before):
            shutil.rmtree(old)


def _current(folder: Path) -> str:
    link = folder / CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def _write_version(folder: Path, files: dict[str, str]) -> None:
    if folder.exists():  # left half-written by a crash, or current long ago
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    for name, text in files.items():
        with os.fdopen(os.open(folder / f"{name}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
