"""Kind Workload as users write it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mesh.config.fields import Domain, Label, PortNumber, PositiveDuration, Spec, Text, Variable, twice
from mesh.config.fields import Duration as AnyDuration
from mesh.model.workload import HealthCheck, HealthType, Locality, Port, Protocol, Stop, Upstream, Workload

DEFAULT_HEALTH = {
    Protocol.GRPC: HealthType.GRPC,
    Protocol.HTTP: HealthType.HTTP,
    Protocol.HTTP2: HealthType.TCP,
    Protocol.TCP: HealthType.TCP,
}


class PortSpec(Spec):
    name: Label | None = None
    port: PortNumber
    app_protocol: Protocol = Protocol.GRPC
    target_port: PortNumber | None = None


class HealthSpec(Spec):
    type: HealthType | None = None
    service: Text = ""
    path: Text = "/"
    interval: PositiveDuration = HealthCheck(HealthType.NONE).interval
    timeout: PositiveDuration = HealthCheck(HealthType.NONE).timeout
    healthy_after: Annotated[int, Field(ge=1)] = 1
    unhealthy_after: Annotated[int, Field(ge=1)] = 3

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/") or any(c.isspace() for c in path):
            raise ValueError("this is no path; start it with / and leave out spaces")
        return path


class UpstreamSpec(Spec):
    service: Domain
    port: PortNumber | None = None
    env: Variable | None = None

    @field_validator("service")
    @classmethod
    def _service_or_namespaced(cls, service: str) -> str:
        if service.count(".") > 1:
            raise ValueError(f"{service!r} is not a service; write `service` or `service.namespace`")
        return service


class LocalitySpec(Spec):
    region: Text = ""
    zone: Text = ""


class StopSpec(Spec):
    drain: AnyDuration = Stop().drain
    grace: AnyDuration = Stop().grace


class WorkloadSpec(Spec):
    service: Label | None = None
    version: Label = "v1"
    service_account: Domain | None = None
    command: tuple[Text, ...] | None = None
    working_directory: Text = "."
    env: Mapping[Variable, Text] = Field(default_factory=dict)
    port: PortNumber | None = None
    ports: tuple[PortSpec, ...] = ()
    health: HealthSpec = HealthSpec()
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    upstreams: tuple[UpstreamSpec, ...] = ()
    locality: LocalitySpec = LocalitySpec()
    stop: StopSpec = StopSpec()
    descriptor_set: Annotated[Text, Field(min_length=1)] | None = None

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...] | None) -> Any:
        if command is not None and not (command and command[0]):
            raise ValueError("command is empty; name a program, or leave `command` out when somebody else starts it")
        return command

    @model_validator(mode="after")
    def _ports_fit(self) -> Self:
        if self.port is not None and self.ports:
            raise ValueError("both port and ports are given; keep one")
        ports = self.all_ports()
        _once("port", (port.number for port in ports))
        _once("port name", (port.name for port in ports))
        targets = [port.target_port for port in ports if port.target_port]
        _once("targetPort", targets)
        if targets and self.replicas > 1:
            raise ValueError(f"targetPort {targets[0]} is fixed, but there are {self.replicas} replicas; remove one")
        if self.command is None and len(targets) < len(ports):
            raise ValueError("without command each port needs to say where the service listens; give it a targetPort")
        return self

    @model_validator(mode="after")
    def _health_fits(self) -> Self:
        if self.health.type not in (None, HealthType.NONE) and not self.all_ports():
            raise ValueError(f"health type {self.health.type} needs a port; give it one, or write `type: none`")
        return self

    @model_validator(mode="after")
    def _descriptors_fit(self) -> Self:
        if self.descriptor_set and Protocol.GRPC not in {port.protocol for port in self.all_ports()}:
            raise ValueError("descriptorSet describes gRPC, but no port speaks it; remove it, or correct appProtocol")
        return self

    @model_validator(mode="after")
    def _upstreams_fit(self) -> Self:
        _once("upstream", ((up.service, up.port) for up in self.upstreams))
        _once("variable", [up.env for up in self.upstreams if up.env])
        return self

    def all_ports(self) -> tuple[Port, ...]:
        specs = (PortSpec(port=self.port),) if self.port is not None else self.ports
        unnamed = Counter(spec.app_protocol for spec in specs if spec.name is None)
        return tuple(
            Port(
                name=spec.name
                or (spec.app_protocol if unnamed[spec.app_protocol] == 1 else f"{spec.app_protocol}-{spec.port}"),
                number=spec.port,
                protocol=spec.app_protocol,
                target_port=spec.target_port,
            )
            for spec in specs
        )

    def resource(self, namespace: str, name: str, where: str, folder: str) -> Workload:
        service = self.service or name
        if "." in service:
            raise ValueError(f"the name {name!r} has a dot, so it cannot name the service; give spec.service")
        return Workload(
            namespace=namespace,
            name=name,
            where=where,
            service=service,
            version=self.version,
            service_account=self.service_account or service,
            ports=self.all_ports(),
            health=self._health(),
            command=self.command or (),
            working_directory=str(PurePosixPath(folder) / self.working_directory),
            env=tuple(sorted(self.env.items())),
            replicas=self.replicas,
            upstreams=_upstreams(self.upstreams, namespace),
            locality=Locality(self.locality.region, self.locality.zone),
            stop=Stop(self.stop.drain, self.stop.grace),
            descriptor_set=str(PurePosixPath(folder) / self.descriptor_set) if self.descriptor_set else "",
        )

    def _health(self) -> HealthCheck:
        ports = self.all_ports()
        default = DEFAULT_HEALTH[ports[0].protocol] if ports else HealthType.NONE
        return HealthCheck(**self.health.model_dump() | {"type": self.health.type or default})


def _upstreams(specs: tuple[UpstreamSpec, ...], namespace: str) -> tuple[Upstream, ...]:
    upstreams: list[Upstream] = []
    for spec in specs:
        service, _, elsewhere = spec.service.partition(".")
        further = any(up.key == spec.service for up in upstreams)
        key = f"{spec.service}:{spec.port}" if further else spec.service
        upstreams.append(Upstream(key, elsewhere or namespace, service, spec.port, spec.env or ""))
    return tuple(upstreams)


def _once(what: str, values: Iterable[object]) -> None:
    if (value := twice(values)) is not None:
        raise ValueError(f"{what} {value} is given twice; keep one")
