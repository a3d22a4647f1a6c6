"""The certificates of a mesh on this machine, read from its state folder."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mesh.agent.folders import Folders
from mesh.agent.versions import CURRENT
from mesh.api.proa.v1 import status_pb2
from mesh.identity.folder import BUNDLE
from mesh.model.names import LEAF_SECRET, InstanceId


@dataclass(frozen=True, slots=True)
class Certificate:
    """`remedy` says what to do when it was not renewed."""

    where: str
    not_before: datetime
    not_after: datetime
    remedy: str

    def part_left(self, at: datetime) -> float:
        """The part of its life that is left; below 0 when it has expired."""
        return (self.not_after - at) / (self.not_after - self.not_before)


def certificates_of(folder: Path, instances: Iterable[status_pb2.Instance]) -> tuple[Certificate, ...]:
    """The authority's, and that of each instance. One that cannot be read is left out."""
    return tuple(_found(folder, instances))


def _found(folder: Path, instances: Iterable[status_pb2.Instance]) -> Iterator[Certificate]:
    roots = folder / "ca" / BUNDLE
    for root in x509.load_pem_x509_certificates(roots.read_bytes()) if roots.exists() else ():
        yield Certificate("the authority", root.not_valid_before_utc, root.not_valid_after_utc, "Run `proa ca rotate`")
    for one in instances:
        who = InstanceId(one.namespace, one.workload, one.instance)
        secret = Folders(folder, folder, who).secrets / CURRENT / f"{LEAF_SECRET}.json"
        if secret.exists():
            chain = json.loads(secret.read_text())["resources"][0]["tls_certificate"]["certificate_chain"]
            remedy = f"Look for certificate_not_renewed in `proa logs --agent {one.instance}`"
            yield _certificate(f"{one.namespace}/{one.instance}", chain["inline_string"].encode(), remedy)


def _certificate(where: str, pem: bytes, remedy: str) -> Certificate:
    leaf = x509.load_pem_x509_certificate(pem)
    return Certificate(where, leaf.not_valid_before_utc, leaf.not_valid_after_utc, remedy)
