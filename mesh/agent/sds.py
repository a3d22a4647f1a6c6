"""The files from which Envoy reads its certificate and the roots it trusts."""

import json
from pathlib import Path

from mesh.agent.versions import CURRENT, swap_in
from mesh.agent.way import Kept
from mesh.model.names import LEAF_SECRET, ROOTS_SECRET
from mesh.translate.secret import leaf_secret, roots_secret


def write_secrets(folder: Path, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None:
    """Puts both secrets under `folder/current`, which Envoy watches. It never sees one without the other."""
    leaf, roots = leaf_secret(chain_pem, key_pem), roots_secret(bundle_pem)
    swap_in(folder, {f"{LEAF_SECRET}.json": leaf, f"{ROOTS_SECRET}.json": roots})


def read_secrets(folder: Path) -> Kept | None:
    """What `write_secrets` has put there last; None when nothing usable is there."""
    try:
        leaf, roots = (
            json.loads((folder / CURRENT / f"{name}.json").read_text())["resources"][0]
            for name in (LEAF_SECRET, ROOTS_SECRET)
        )
        certificate = leaf["tls_certificate"]
        return Kept(
            certificate["certificate_chain"]["inline_string"],
            certificate["private_key"]["inline_string"],
            roots["validation_context"]["trusted_ca"]["inline_string"],
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
