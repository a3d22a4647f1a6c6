"""The files from which Envoy reads its certificate and the roots it trusts."""

from pathlib import Path

from mesh.agent.versions import swap_in
from mesh.model.names import LEAF_SECRET, ROOTS_SECRET
from mesh.translate.secret import leaf_secret, roots_secret


def write_secrets(folder: Path, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None:
    """Puts both secrets under `folder/current`, which Envoy watches. It never sees one without the other."""
    leaf, roots = leaf_secret(chain_pem, key_pem), roots_secret(bundle_pem)
    swap_in(folder, {f"{LEAF_SECRET}.json": leaf, f"{ROOTS_SECRET}.json": roots})
