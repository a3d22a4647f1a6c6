"""Where the parts of one instance listen: names for the port book, and the addresses that come of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.agent.plan import Plan
from mesh.agent.ports import LOOPBACK
from mesh.api.proa.v1 import agents_pb2

OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Ports of 127.0.0.1; `inbound` and `app` by what callers name, `upstreams` by key. `admin` is a path.

    Those of `inbound` are on `host`, which is what callers are told.
    """

    inbound: Mapping[int, int]
    app: Mapping[int, int]
    upstreams: Mapping[str, int]
    outbound: int
    admin: str
    host: str = LOOPBACK

    @property
    def message(self) -> agents_pb2.Addresses:
        return agents_pb2.Addresses(
            inbound={number: f"{self.host}:{port}" for number, port in self.inbound.items()},
            app={number: host_port(port) for number, port in self.app.items()},
            upstreams={key: host_port(port) for key, port in self.upstreams.items()},
            outbound=host_port(self.outbound),
            admin=self.admin,
        )


def host_port(port: int) -> str:
    return f"{LOOPBACK}:{port}"


def port_names(plan: Plan) -> tuple[str, ...]:
    """What the instance needs from the port book. A port that the document fixes is not in it."""
    return (
        *(f"inbound/{port.number}" for port in plan.ports),
        *(f"app/{port.number}" for port in plan.ports if port.target_port is None),
        *(f"upstream/{key}" for key, _ in plan.upstreams),
        OUTBOUND,
    )


def addresses_for(plan: Plan, given: Mapping[str, int], admin: str, host: str = LOOPBACK) -> Addresses:
    """The addresses of the instance; `given` has a port for each of `port_names(plan)`."""
    return Addresses(
        inbound={port.number: given[f"inbound/{port.number}"] for port in plan.ports},
        app={port.number: port.target_port or given[f"app/{port.number}"] for port in plan.ports},
        upstreams={key: given[f"upstream/{key}"] for key, _ in plan.upstreams},
        outbound=given[OUTBOUND],
        admin=admin,
        host=host,
    )
