"""What to run, read from the control plane's answer."""

from dataclasses import dataclass
from pathlib import Path

from mesh.api.proa.v1 import agents_pb2
from mesh.model.workload import HealthCheck, HealthType, Port, Protocol, Stop


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run for an instance. An empty `command` means that somebody else starts the service.

    `upstreams` holds the key of each upstream with the variable that gets its address, "" for none. `where` is
    `file:line` of the document, `descriptor_set` a file, "" for none.
    """

    command: tuple[str, ...]
    working_directory: Path
    env: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]
    upstreams: tuple[tuple[str, str], ...]
    health: HealthCheck
    stop: Stop
    where: str
    identity: str
    generation: str
    descriptor_set: str = ""


def plan_from(message: agents_pb2.LaunchPlan) -> Plan:
    return Plan(
        command=tuple(message.command),
        working_directory=Path(message.working_directory or "/"),
        env=tuple(sorted(message.env.items())),
        ports=tuple(_port(port) for port in message.ports),
        upstreams=tuple((upstream.key, upstream.env) for upstream in message.upstreams),
        health=_health(message.health),
        stop=Stop(message.drain.ToTimedelta(), message.grace.ToTimedelta()),
        where=message.where,
        identity=message.identity,
        generation=message.generation,
        descriptor_set=message.descriptor_set,
    )


def _port(message: agents_pb2.PlannedPort) -> Port:
    protocol = agents_pb2.AppProtocol.Name(message.protocol).removeprefix("APP_PROTOCOL_").lower()
    return Port(message.name, message.number, Protocol(protocol), message.target_port or None)


def _health(message: agents_pb2.HealthPlan) -> HealthCheck:
    return HealthCheck(
        type=HealthType(message.type),
        service=message.service,
        path=message.path,
        interval=message.interval.ToTimedelta(),
        timeout=message.timeout.ToTimedelta(),
        healthy_after=message.healthy_after,
        unhealthy_after=message.unhealthy_after,
    )
