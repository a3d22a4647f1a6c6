"""What is known of the methods of services, and who told it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mesh.model.descriptors import Reading
from mesh.model.documents import Documents
from mesh.model.schema import Schema, union
from mesh.model.topology import Schemas
from mesh.model.workload import Protocol, Workload


class Source(StrEnum):
    REFLECTION = "reflection"
    FILE = "file"
    PUSH = "push"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Who tells: a workload, or whoever pushed for a service. A push with `version` "" is for all of them."""

    namespace: str
    workload: str = ""
    service: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What was read of a service at `read_at`. An empty `digest`: nothing could be, and `problem` says why.

    `digest` and `size` are of the FileDescriptorSet; `undescribed` holds services that are there without descriptors.
    """

    source: Source
    digest: str
    size: int
    read_at: datetime
    undescribed: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The newest offer of an origin, and since when it has told these descriptors.

    One that tells nothing leaves `reading` and `digest` of the one before in force: there may be other methods now.
    """

    offer: Offer
    digest: str
    size: int
    since: datetime
    reading: Reading

    @property
    def schema(self) -> Schema | None:
        """None when there have never been descriptors."""
        if not self.digest:
            return None
        certain = self.offer.digest and not self.offer.undescribed
        return self.reading.schema if certain else replace(self.reading.schema, complete=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for people."""
        said = [self.offer.problem] if self.offer.problem else []
        return (*said, *(f"{name} is not described" for name in self.offer.undescribed), *self.reading.problems)


NOTHING_READ = Reading(Schema(complete=False))


def by_version(documents: Documents, known: Mapping[Origin, Known]) -> Schemas:
    """The schema of each version of each service for which there is one.

    What was pushed for the version comes first, then what was pushed for all, then what its workloads tell together.
    """
    workloads: dict[tuple[str, str, str], list[Workload]] = {}
    for workload in documents.workloads:
        if speaks_grpc(workload):
            workloads.setdefault((workload.namespace, workload.service, workload.version), []).append(workload)
    return {key: schema for key, of_it in workloads.items() if (schema := _schema(key, of_it, known))}


def speaks_grpc(workload: Workload) -> bool:
    return any(port.protocol is Protocol.GRPC for port in workload.ports)


def pushes(key: tuple[str, str, str], known: Mapping[Origin, Known]) -> Iterator[Known]:
    """What was pushed for a version of a service; the first one counts."""
    namespace, service, version = key
    for of_version in (version, ""):
        if found := known.get(Origin(namespace, service=service, version=of_version)):
            yield found


def _schema(key: tuple[str, str, str], workloads: list[Workload], known: Mapping[Origin, Known]) -> Schema | None:
    if pushed := next(pushes(key, known), None):
        return pushed.schema
    told = [known.get(Origin(workload.namespace, workload.name)) for workload in workloads]
    schemas = [schema for one in told if one and (schema := one.schema)]
    if not schemas:
        return None
    together = union(schemas)
    return together if len(schemas) == len(workloads) else replace(together, complete=False)
