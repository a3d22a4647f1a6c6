"""Between the messages of the API and the values of the registry, for what more than one service speaks of."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Final, TypeVar

from mesh.api.proa.v1 import agents_pb2, documents_pb2
from mesh.errors import MeshError, UsageError
from mesh.model.address import Address
from mesh.model.documents import Key
from mesh.model.printable import printable
from mesh.registry.leases import Addresses, Loaded, Report

K = TypeVar("K", int, str)

MOST_ADDRESSES: Final = 1000
MOST_NAMED: Final = 100
LONGEST: Final = 1000
"""Characters of one text. What agents say is kept for as long as their instances live."""

_REMEDY: Final = "Send the addresses as `host:port`, all of them"


def key(message: documents_pb2.DocumentKey) -> Key:
    return Key(message.kind, message.namespace, message.name)


def key_message(key: Key) -> documents_pb2.DocumentKey:
    return documents_pb2.DocumentKey(kind=key.kind, namespace=key.namespace, name=key.name)


def problem_message(error: MeshError, *, warning: bool = False) -> documents_pb2.Problem:
    return documents_pb2.Problem(where=error.where, problem=error.problem, remedy=error.remedy, warning=warning)


def addresses(message: agents_pb2.Addresses) -> Addresses:
    """Raises UsageError for what is no address, and for more of them than an instance has."""
    if len(message.inbound) + len(message.app) + len(message.upstreams) > MOST_ADDRESSES:
        raise UsageError("hello", f"it has more than {MOST_ADDRESSES} addresses", "Send those that it has")
    try:
        return Addresses(
            inbound={port: _address(text) for port, text in message.inbound.items()},
            app={port: _address(text) for port, text in message.app.items()},
            upstreams={_said(name): _address(text) for name, text in message.upstreams.items()},
            outbound=_address(message.outbound),
            admin=_said(message.admin),
        )
    except ValueError as error:
        raise UsageError("hello", f"an address cannot be read: {error}", _REMEDY) from error


def addresses_message(value: Addresses) -> agents_pb2.Addresses:
    return agents_pb2.Addresses(
        inbound=_texts(value.inbound),
        app=_texts(value.app),
        upstreams=_texts(value.upstreams),
        outbound=str(value.outbound),
        admin=value.admin,
    )


def report(message: agents_pb2.InstanceReport) -> Report:
    """No more of it than an agent has to say."""
    return Report(
        healthy=message.healthy,
        reason=_said(message.reason),
        pid=message.pid,
        agent_pid=message.agent_pid,
        envoy_pid=message.envoy_pid,
        envoy_version=_said(message.envoy_version),
        envoy_ready=message.envoy_ready,
        service_restarts=message.service_restarts,
        envoy_restarts=message.envoy_restarts,
        exposed=_few(message.exposed),
        loaded=tuple(
            Loaded(_said(one.serial), _said(one.issuer), one.not_after.ToDatetime(UTC), _few(one.roots))
            for one in message.loaded[:MOST_NAMED]
        ),
        schema_told=message.schema_told,
    )


def report_message(value: Report) -> agents_pb2.InstanceReport:
    return agents_pb2.InstanceReport(**asdict(value))


def _few(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_said, texts[:MOST_NAMED]))


def _said(text: str) -> str:
    return printable(text, LONGEST)


def _address(text: str) -> Address:
    """Raises ValueError for a host name: Envoy refuses all endpoints of a service for one that is no IP address."""
    address = Address.parse(text)
    ipaddress.ip_address(address.host.strip("[]"))
    return address


def _texts(values: Mapping[K, Address]) -> dict[K, str]:
    return {key: str(address) for key, address in values.items()}
