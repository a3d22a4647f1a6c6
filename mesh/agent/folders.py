"""Where one instance keeps its files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.agent.private import claim, keep_private
from mesh.errors import StartError
from mesh.model.names import InstanceId

LONGEST_SOCKET: Final = 103
"""Bytes of a unix socket's path: 107 on Linux, 103 on macOS."""


@dataclass(frozen=True, slots=True)
class Folders:
    """`state` is the mesh's folder, kept; `run` is a short one for sockets."""

    state: Path
    run: Path
    id: InstanceId

    @property
    def instance(self) -> Path:
        """Envoy's working directory."""
        return self.state / "instances" / f"{self.id.namespace}.{self.id.instance}"

    @property
    def bootstrap(self) -> Path:
        return self.instance / "bootstrap.json"

    @property
    def secrets(self) -> Path:
        return self.instance / "sds"

    @property
    def workload(self) -> Path:
        """`${state}`: what the service keeps there outlives the instance."""
        return self.state / "workloads" / f"{self.id.namespace}.{self.id.workload}"

    @property
    def ports(self) -> Path:
        return self.state / "ports.json"

    @property
    def service_log(self) -> Path:
        return log_file(self.state, self.id.namespace, self.id.instance)

    @property
    def envoy_log(self) -> Path:
        return log_file(self.state, self.id.namespace, self.id.instance, "envoy")

    @property
    def admin(self) -> Path:
        """Envoy's admin socket. Raises StartError when the run folder leaves no room for its name."""
        digest = hashlib.sha256(self.id.node_id.encode()).hexdigest()[:8]
        path = self.run / f"{self.id.instance[:20]}-{digest}.sock"
        if len(str(path).encode()) > LONGEST_SOCKET:
            raise StartError(
                str(path),
                f"a unix socket's path ends at {LONGEST_SOCKET} bytes",
                "Choose a shorter run folder, for example by XDG_RUNTIME_DIR",
            )
        return path

    def make(self) -> None:
        """Makes the folders, each for its owner alone."""
        for folder in (self.instance, self.workload, self.service_log.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep_bootstrap(self, text: str) -> bool:
        """Writes the bootstrap, as a whole or not at all; whether it is another one than before."""
        return keep_private(self.bootstrap, text)

    def claim(self) -> None:
        """Takes the instance for this process, until that ends.

        Raises StartError when another agent has it: two Envoys would take each other's sockets away.
        """
        if not claim(self.instance):
            remedy = "Stop that one, or choose another state folder"
            raise StartError(self.id.node_id, "another agent runs this instance", remedy)


def log_file(state: Path, namespace: str, instance: str, part: str = "") -> Path:
    """What an instance's service has printed, or its `envoy` or its `agent`."""
    return state / "logs" / ".".join([namespace, instance, *filter(None, [part]), "log"])
