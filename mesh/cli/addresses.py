"""Addresses that people write: each one checked before anything is done with it. All raise UsageError."""

import ipaddress

from mesh.agent.ports import is_free
from mesh.errors import UsageError
from mesh.model.address import HIGHEST_PORT, Address


def server_address(server: str) -> Address:
    """Of a control plane on another machine."""
    try:
        return Address.parse(server)
    except ValueError as error:
        raise UsageError("--server", str(error), "Write unix:/path or host:port") from None


def local_address(option: str, text: str) -> Address:
    """Where something is to listen; port 0 is a free one."""
    try:
        return Address.parse(text)
    except ValueError:
        raise UsageError(option, f"{text!r} is not HOST:PORT", "Write for example 127.0.0.1:0") from None


def check_address(address: str) -> None:
    """What callers can dial, and is this machine's."""
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError:
        raise UsageError("--address", f"{address} is no IPv4 address", "Write for example 10.0.0.5") from None
    if found.is_unspecified or found.is_multicast:
        raise UsageError("--address", f"nobody can call {address}", "Name one address of this machine")
    try:
        is_free(0, address)
    except OSError as error:
        raise UsageError(
            "--address", f"{address} is not this machine's: {error.strerror}", "Name one that is"
        ) from None


def check_listen(text: str) -> None:
    """A list of `HOST:PORT`, each with a port above it."""
    for one in filter(None, text.split(",")):
        try:
            address = Address.parse(one)
        except ValueError as error:
            raise UsageError("--listen", str(error), "Write for example 10.0.0.1:7443") from None
        if ":" in address.host or not 0 < address.port < HIGHEST_PORT:
            problem = f"nobody can listen at {one} and the port above it"
            raise UsageError("--listen", problem, f"Write an IPv4 address and a port below {HIGHEST_PORT}")
