"""How much of the control plane one peer may take, and for how long."""

import resource
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from mesh.errors import LimitError
from mesh.registry.caller import Caller
from mesh.registry.registry import Registry

FIRST_CONTACTS: Final = 256
"""Connections of those who have no certificate yet. Each is over after seconds."""

SPARED: Final = 256
"""Descriptors that are not for those who come by TCP but for the state, metrics, and agents of this machine."""

MOST_DESCRIPTORS: Final = 65_536

CALLS: Final = 256
CALLS_PER_INSTANCE: Final = 4
"""An instance has a stream of its Envoy and one of its agent, and for a moment both twice."""

LONGEST: Final = timedelta(minutes=30)
PART: Final = 0.25
"""Of the life of a leaf. At least 40 % of that are left when a connection begins, so it ends before its certificate."""

GRACE: Final = timedelta(seconds=30)


def raise_descriptors() -> None:
    """As many connections as this process may have, and not as few as a shell has by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_DESCRIPTORS)), hard))


def connections(servers: int, first_contacts: int) -> int:
    """How many each of so many servers may have, so that there are descriptors left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(SPARED, min(soft, MOST_DESCRIPTORS) - SPARED - first_contacts * FIRST_CONTACTS) // servers


def connection_age(leaf_lifetime: timedelta) -> timedelta:
    """After which a connection ends: certificates are only looked at when one begins. gRPC spreads it by 10 %."""
    return min(LONGEST, leaf_lifetime * PART)


def age_options(age: timedelta) -> dict[str, int]:
    """For a server. Streams that are still open when the grace is over are cut, and begin anew elsewhere."""
    in_ms = timedelta(milliseconds=1)
    return {
        "grpc.max_connection_age_ms": age // in_ms,
        "grpc.max_connection_age_grace_ms": min(GRACE, age / 4) // in_ms,
    }


class Calls:
    """Those that are open, by who makes them. For an identity they grow with its instances."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._open: Counter[str] = Counter()
        self._most: dict[str, int] = {}

    def begin(self, caller: Caller, context: Any) -> None:
        """Counts the call until it is over. Raises LimitError when there are too many."""
        name = caller.identity or caller.name
        if self._open[name] >= self._most.get(name, CALLS):
            self._most[name] = CALLS + CALLS_PER_INSTANCE * self._instances(caller.identity)
            if self._open[name] >= self._most[name]:
                raise LimitError(name, f"it has {self._open[name]} calls open", "End some, then try again")
        self._open[name] += 1
        context.add_done_callback(lambda _: self._end(name))

    def _instances(self, identity: str) -> int:
        return sum(1 for lease in self._registry.leases.values() if lease.identity.uri == identity)

    def _end(self, name: str) -> None:
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
            self._most.pop(name, None)
