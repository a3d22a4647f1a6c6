"""Where the service really listens: beyond loopback, or on another port than it should."""

from collections.abc import Collection, Iterable
from ipaddress import ip_address

import psutil

from mesh.agent.process import group_members


def listening(pid: int) -> tuple[str, ...]:
    """`host:port` of each TCP socket on which the process, its descendants or its process group listen, sorted."""
    found: set[str] = set()
    for process in _tree(pid):
        try:
            found.update(_text(*c.laddr) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        except psutil.Error:  # it has ended, or belongs to somebody else
            continue
    return tuple(sorted(found))


def listening_on(ports: Collection[int]) -> tuple[str, ...]:
    """The same for whoever listens on these ports, as far as this user may see it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ()
    listeners = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN and c.laddr]
    return tuple(sorted({_text(*address) for address in listeners if address.port in ports}))


def beyond_loopback(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of the `host:port` that other machines may reach."""
    return tuple(address for address in addresses if not _is_loopback(address.rpartition(":")[0]))


def _is_loopback(host: str) -> bool:
    address = ip_address(host.strip("[]").partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)  # Java listens on ::ffff:127.0.0.1
    return (mapped or address).is_loopback


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        family = {pid: top, **{child.pid: child for child in top.children(recursive=True)}}
        group = {other: psutil.Process(other) for other in group_members(pid) if other not in family}
    except psutil.Error:
        return []
    return [*family.values(), *group.values()]


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
