"""What the command and the environment of a service may refer to. Pure."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from mesh.agent.addresses import Addresses, host_port
from mesh.agent.plan import Plan
from mesh.agent.ports import LOOPBACK
from mesh.errors import StartError

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Z0-9]")


def variables_for(plan: Plan, addresses: Addresses, *, python: str, state: str) -> dict[str, str]:
    """What `${…}` may name, with its value. `${port}` is the first port's."""
    ports = {f"port.{port.name}": str(addresses.app[port.number]) for port in plan.ports}
    upstreams = {f"upstreams.{key}": host_port(port) for key, port in addresses.upstreams.items()}
    own = {"host": LOOPBACK, "outbound": host_port(addresses.outbound), "python": python, "state": state}
    return {**own, **_first_port("port", plan, addresses), **ports, **upstreams}


def given_environment(plan: Plan, addresses: Addresses) -> dict[str, str]:
    """What every service gets without asking: HOST, PORT, PORT_<NAME>, and the variables of its upstreams."""
    ports = {_port_variable(port.name): str(addresses.app[port.number]) for port in plan.ports if port.name}
    upstreams = {env: host_port(addresses.upstreams[key]) for key, env in plan.upstreams if env}
    return {"HOST": LOOPBACK, **_first_port("PORT", plan, addresses), **ports, **upstreams}


def _first_port(name: str, plan: Plan, addresses: Addresses) -> dict[str, str]:
    return {name: str(addresses.app[plan.ports[0].number])} if plan.ports else {}


def filled(text: str, variables: Mapping[str, str], where: str) -> str:
    """`text` with each `${name}` replaced and each `$${` made `${`. Raises StartError for a name that is unknown."""

    def value(reference: re.Match[str]) -> str:
        name = reference[1]
        if name is None:
            return "${"
        if name not in variables:
            raise StartError(where, f"${{{name}}} is not known to this workload", _remedy(name, variables))
        return variables[name]

    return _REFERENCE.sub(value, text)


def _port_variable(name: str) -> str:
    return f"PORT_{_NOT_IN_A_NAME.sub('_', name.upper())}"


def _remedy(name: str, variables: Mapping[str, str]) -> str:
    if name.startswith("upstreams.") and not any(known.startswith("upstreams.") for known in variables):
        return "Declare it under `upstreams:`, and see that its service is there"
    near = get_close_matches(name.lower(), variables, n=1)  # ${PORT} is what a shell would call it
    known = ", ".join(f"${{{other}}}" for other in sorted(variables))
    meant = f"Did you mean ${{{near[0]}}}? " if near else ""
    return f"{meant}There are {known}; write $${{{name}}} for the plain text"
