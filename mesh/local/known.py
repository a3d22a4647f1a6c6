"""What is known of methods on this machine, without asking a control plane."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mesh.local.state import State
from mesh.model.descriptors import digest_of, read
from mesh.model.documents import Documents
from mesh.model.topology import Schemas
from mesh.registry.known import Known, Offer, Origin, Source, by_version
from mesh.registry.store import known_at


def known_schemas(documents: Documents, state: State | None) -> Schemas:
    """What the mesh of the state folder has found out, and what is in the files that the documents name.

    A file that cannot be read is none. Raises StateError when the state cannot be read.
    """
    known = known_at(state.database) if state else {}
    return by_version(documents, {**known, **_files(documents)})


def _files(documents: Documents) -> Mapping[Origin, Known]:
    found: dict[Origin, Known] = {}
    for workload in documents.workloads:
        path = Path(workload.descriptor_set)
        if workload.descriptor_set and path.is_file():
            content = path.read_bytes()
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            offer = Offer(Source.FILE, digest_of(content), len(content), modified)
            origin = Origin(workload.namespace, workload.name)
            found[origin] = Known(offer, offer.digest, offer.size, modified, read(content))
    return found
