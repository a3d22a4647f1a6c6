"""Between the messages of the API and the values of the registry, for what more than one service speaks of."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration

from mesh.api.proa.v1 import agents_pb2, documents_pb2
from mesh.errors import MeshError, UsageError
from mesh.model.documents import Key
from mesh.model.topology import Address
from mesh.registry.leases import Addresses, Loaded, Report

K = TypeVar("K", int, str)

_REMEDY: Final = "Send the addresses as `host:port`, all of them"


def key(message: documents_pb2.DocumentKey) -> Key:
    return Key(message.kind, message.namespace, message.name)


def key_message(key: Key) -> documents_pb2.DocumentKey:
    return documents_pb2.DocumentKey(kind=key.kind, namespace=key.namespace, name=key.name)


def problem_message(error: MeshError, *, warning: bool = False) -> documents_pb2.Problem:
    return documents_pb2.Problem(where=error.where, problem=error.problem, remedy=error.remedy, warning=warning)


def duration_message(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def addresses(message: agents_pb2.Addresses) -> Addresses:
    """Raises UsageError for what is no address."""
    try:
        return Addresses(
            inbound={port: Address.parse(text) for port, text in message.inbound.items()},
            app={port: Address.parse(text) for port, text in message.app.items()},
            upstreams={name: Address.parse(text) for name, text in message.upstreams.items()},
            outbound=Address.parse(message.outbound),
            admin=message.admin,
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
    return Report(
        healthy=message.healthy,
        reason=message.reason,
        pid=message.pid,
        agent_pid=message.agent_pid,
        envoy_pid=message.envoy_pid,
        envoy_version=message.envoy_version,
        envoy_ready=message.envoy_ready,
        service_restarts=message.service_restarts,
        envoy_restarts=message.envoy_restarts,
        exposed=tuple(message.exposed),
        loaded=tuple(
            Loaded(one.serial, one.issuer, one.not_after.ToDatetime(UTC), tuple(one.roots)) for one in message.loaded
        ),
    )


def report_message(value: Report) -> agents_pb2.InstanceReport:
    return agents_pb2.InstanceReport(
        healthy=value.healthy,
        reason=value.reason,
        pid=value.pid,
        agent_pid=value.agent_pid,
        envoy_pid=value.envoy_pid,
        envoy_version=value.envoy_version,
        envoy_ready=value.envoy_ready,
        service_restarts=value.service_restarts,
        envoy_restarts=value.envoy_restarts,
        exposed=value.exposed,
        loaded=(agents_pb2.LoadedCertificate(**asdict(one)) for one in value.loaded),
    )


def _texts(values: Mapping[K, Address]) -> dict[K, str]:
    return {key: str(address) for key, address in values.items()}
