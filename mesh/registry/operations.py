"""What should run, and what people ask of it: so many instances, new ones in place of the old. Pure."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Final

from mesh.config import from_json
from mesh.config.nearest import not_found
from mesh.errors import ConfigError, UsageError
from mesh.model.documents import GROUP_VERSION, Key
from mesh.model.workload import Workload
from mesh.registry.state import Kept, Operation, State

CLIENT: Final = "grpc-client"


@dataclass(frozen=True, slots=True)
class Desired:
    """A workload as it should run. Instances with another `generation` are to be replaced.

    `document` is the whole document as JSON, from which an instance's part can be read again after a restart.
    """

    workload: Workload
    replicas: int
    generation: str
    document: str

    @property
    def fixed_port(self) -> bool:
        """Whether two instances cannot run side by side."""
        return any(port.target_port for port in self.workload.ports)


def desired(state: State) -> tuple[Desired, ...]:
    """All workloads, sorted by namespace and name."""
    return tuple(
        _desired(workload, kept, state.operations.get(key, Operation()))
        for key, kept in state.in_force().items()
        if isinstance(workload := kept.resource, Workload)
    )


def desired_one(state: State, namespace: str, name: str) -> Desired:
    """Raises NotFoundError with the nearest name when there is no such workload."""
    wanted = Key("Workload", namespace, name)
    found = {Key("Workload", one.workload.namespace, one.workload.name): one for one in desired(state)}
    if wanted in found:
        return found[wanted]
    where = f"{namespace}/{name}"
    raise not_found(where, "workload", where, (f"{key.namespace}/{key.name}" for key in found), "Workloads")


def client(namespace: str, service_account: str) -> Desired:
    """A gRPC client without a sidecar, as the workload that it would be: it runs nothing here and listens nowhere.

    Raises UsageError for names that no workload could have.
    """
    document = {
        "apiVersion": GROUP_VERSION,
        "kind": "Workload",
        "metadata": {"name": service_account, "namespace": namespace},
        "spec": {"service": CLIENT, "serviceAccount": service_account, "stop": {"drain": "0s"}},
    }
    text = json.dumps(document)
    try:
        workload = from_json(text, f"{CLIENT}:1")
    except ConfigError as error:
        raise UsageError(f"{namespace}/{service_account}", error.problem, error.remedy) from error
    assert isinstance(workload, Workload)
    return Desired(workload, replicas=0, generation="", document=text)


def scale(state: State, namespace: str, name: str, replicas: int) -> State:
    """`replicas` instances until the workload's document changes. Raises NotFoundError and UsageError."""
    workload = desired_one(state, namespace, name)
    where = f"{namespace}/{name}"
    if replicas < 0:
        raise UsageError(where, f"{replicas} instances cannot run", "Ask for 0 or more")
    if replicas > 1 and workload.fixed_port:
        remedy = f"Remove targetPort ({workload.workload.where}), so that each instance gets a free port, or ask for 1"
        raise UsageError(where, f"{replicas} instances cannot listen on one fixed port", remedy)
    return _with_operation(state, namespace, name, replicas=replicas)


def restart(state: State, namespace: str, name: str) -> State:
    """New instances in place of those that run. Raises NotFoundError."""
    desired_one(state, namespace, name)
    operation = state.operations.get(Key("Workload", namespace, name), Operation())
    return _with_operation(state, namespace, name, restarts=operation.restarts + 1)


def _desired(workload: Workload, kept: Kept, operation: Operation) -> Desired:
    replicas = workload.replicas if operation.replicas is None else operation.replicas
    return Desired(workload, replicas, _generation(kept.written.json, operation.restarts), kept.written.json)


def _generation(document: str, restarts: int) -> str:
    """A digest of all that needs new instances when it changes; how many there are does not."""
    content = json.loads(document)
    content["spec"].pop("replicas", None)
    text = json.dumps([content, restarts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _with_operation(state: State, namespace: str, name: str, **changes: int) -> State:
    key = Key("Workload", namespace, name)
    operation = replace(state.operations.get(key, Operation()), **changes)
    return replace(state, operations={**state.operations, key: operation})
