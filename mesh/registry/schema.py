"""The tables of the state, and how values of the registry become rows and come back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Boolean, Column, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.engine import RowMapping

from mesh.config import Written, from_json
from mesh.errors import ConfigError
from mesh.model.address import Address
from mesh.model.descriptors import Reading
from mesh.model.documents import Key, key_of
from mesh.model.names import Identity, InstanceId
from mesh.model.workload import Workload
from mesh.registry.known import Known, Offer, Origin
from mesh.registry.leases import Addresses, Lease, Report
from mesh.registry.state import Kept, Operation

SCHEMA: Final = 1
"""Written into the state; a state with a higher number is not touched."""

METADATA: Final = MetaData()

META: Final = Table(
    "meta",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("trust_domain", String, nullable=False),
)
"""One row, with id 1."""

DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("set", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("namespace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("json", Text, nullable=False),
    Column("location", String, nullable=False),
    Column("first_applied_at", String, nullable=False),
)

OPERATIONS: Final = Table(
    "operations",
    METADATA,
    Column("kind", String, primary_key=True),
    Column("namespace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("replicas", Integer, nullable=True),
    Column("restarts", Integer, nullable=False),
)

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("namespace", String, primary_key=True),
    Column("workload", String, primary_key=True),
    Column("instance", String, primary_key=True),
    Column("generation", String, nullable=False),
    Column("document", Text, nullable=False),
    Column("location", String, nullable=False),
    Column("identity", String, nullable=False),
    Column("addresses", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("was_healthy", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
)

KNOWN: Final = Table(
    "known",
    METADATA,
    Column("namespace", String, primary_key=True),
    Column("workload", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("since", String, nullable=False),
    Column("offer", Text, nullable=False),
)
"""What is known of the methods of services: the descriptors by their digest."""

DESCRIPTORS: Final = Table(
    "descriptors",
    METADATA,
    Column("digest", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

Row = dict[str, Any]

_REPORT: Final = TypeAdapter(Report)
_OFFER: Final = TypeAdapter(Offer)


def key_row(key: Key) -> Row:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def key_from(row: RowMapping) -> Key:
    return Key(row["kind"], row["namespace"], row["name"])


def document_row(key: Key, kept: Kept) -> Row:
    return {
        **key_row(key),
        "json": kept.written.json,
        "location": kept.written.where,
        "first_applied_at": kept.first_applied_at.isoformat(),
    }


def document_from(row: RowMapping) -> Kept:
    """Raises ConfigError for a document that this version does not understand."""
    resource = from_json(row["json"], row["location"])
    api_version = json.loads(row["json"])["apiVersion"]
    written = Written(resource, key_of(resource), api_version, row["json"], row["location"])
    return Kept(written, datetime.fromisoformat(row["first_applied_at"]))


def operation_row(key: Key, operation: Operation) -> Row:
    return {**key_row(key), **asdict(operation)}


def operation_from(row: RowMapping) -> Operation:
    return Operation(row["replicas"], row["restarts"])


def origin_row(origin: Origin) -> Row:
    return asdict(origin)


def known_row(origin: Origin, known: Known) -> Row:
    return {
        **origin_row(origin),
        "digest": known.digest,
        "size": known.size,
        "since": known.since.isoformat(),
        "offer": _OFFER.dump_json(known.offer).decode(),
    }


def origin_from(row: RowMapping) -> Origin:
    return Origin(row["namespace"], row["workload"], row["service"], row["version"])


def known_from(row: RowMapping, reading: Reading) -> Known:
    since = datetime.fromisoformat(row["since"])
    return Known(_OFFER.validate_json(row["offer"]), row["digest"], row["size"], since, reading)


def instance_row(instance: InstanceId) -> Row:
    return asdict(instance)


def instance_from(row: RowMapping) -> InstanceId:
    return InstanceId(row["namespace"], row["workload"], row["instance"])


def lease_row(lease: Lease) -> Row:
    return {
        **instance_row(lease.id),
        "generation": lease.generation,
        "document": lease.document,
        "location": lease.workload.where,
        "identity": lease.identity.uri,
        "addresses": json.dumps(_addresses_json(lease.addresses)),
        "report": _REPORT.dump_json(lease.report).decode(),
        "was_healthy": lease.was_healthy,
        "draining": lease.draining,
    }


def lease_from(row: RowMapping) -> Lease:
    """Raises ConfigError for a document that this version does not understand."""
    workload = from_json(row["document"], row["location"])
    if not isinstance(workload, Workload):
        raise ConfigError(row["location"], "this is no Workload", "Start the instance again")
    return Lease(
        id=instance_from(row),
        generation=row["generation"],
        workload=workload,
        document=row["document"],
        identity=Identity.from_uri(row["identity"]),
        addresses=_addresses_from(json.loads(row["addresses"])),
        report=_REPORT.validate_json(row["report"]),
        was_healthy=row["was_healthy"],
        draining=row["draining"],
    )


def _addresses_json(addresses: Addresses) -> Mapping[str, Any]:
    return {
        "inbound": {port: str(address) for port, address in addresses.inbound.items()},
        "app": {port: str(address) for port, address in addresses.app.items()},
        "upstreams": {key: str(address) for key, address in addresses.upstreams.items()},
        "outbound": str(addresses.outbound),
        "admin": addresses.admin,
    }


def _addresses_from(value: Mapping[str, Any]) -> Addresses:
    return Addresses(
        inbound={int(port): Address.parse(text) for port, text in value["inbound"].items()},
        app={int(port): Address.parse(text) for port, text in value["app"].items()},
        upstreams={key: Address.parse(text) for key, text in value["upstreams"].items()},
        outbound=Address.parse(value["outbound"]),
        admin=value["admin"],
    )
