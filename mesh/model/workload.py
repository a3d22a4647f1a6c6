"""Workloads: instances outside Kubernetes, and what they need to run."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Protocol(StrEnum):
    """What a port speaks, in Kubernetes' `appProtocol` words."""

    GRPC = "grpc"
    HTTP = "http"
    HTTP2 = "http2"
    TCP = "tcp"

    @property
    def speaks_http2(self) -> bool:
        return self in (Protocol.GRPC, Protocol.HTTP2)


class HealthType(StrEnum):
    GRPC = "grpc"
    HTTP = "http"
    TCP = "tcp"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """`number` is what callers name. `target_port` is where the service listens, None for a free one."""

    name: str
    number: int
    protocol: Protocol
    target_port: int | None = None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the agent judges its service. `service` is for gRPC, `path` for HTTP."""

    type: HealthType
    service: str = ""
    path: str = "/"
    interval: timedelta = timedelta(seconds=1)
    timeout: timedelta = timedelta(seconds=1)
    healthy_after: int = 1
    unhealthy_after: int = 3


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service that the workload calls. `port` None means the service's first port.

    `key` is how the document names it (`inventory`, `inventory.shop`, with `:port` from the second port
    of one service on); `env` is the variable that gets the address, empty for none.
    """

    key: str
    namespace: str
    service: str
    port: int | None = None
    env: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Locality:
    region: str = ""
    zone: str = ""


NOWHERE = Locality()


@dataclass(frozen=True, slots=True)
class Stop:
    """How an instance ends: at most `drain` for its callers to leave, then `grace` after SIGTERM."""

    drain: timedelta = timedelta(seconds=5)
    grace: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Workload:
    """`where` is where it is written. An empty `command` means that somebody else starts the service.

    `descriptor_set` is the absolute path of a file, "" for none.
    """

    namespace: str
    name: str
    where: str
    service: str
    version: str
    service_account: str
    ports: tuple[Port, ...]
    health: HealthCheck
    command: tuple[str, ...] = ()
    working_directory: str = "."
    env: tuple[tuple[str, str], ...] = ()
    replicas: int = 1
    upstreams: tuple[Upstream, ...] = ()
    locality: Locality = NOWHERE
    stop: Stop = Stop()
    descriptor_set: str = ""
