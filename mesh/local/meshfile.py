"""`mesh.json`: what runs where, for other programs. Keys are added, never removed."""

from collections.abc import Iterable
from typing import Any

from mesh.api.proa.v1.status_pb2 import Instance


def mesh_json(
    *,
    address: str,
    xds: str,
    metrics: str,
    control_plane_pid: int | None,
    instances: Iterable[tuple[Instance, int | None]],
) -> dict[str, Any]:
    """The content of the file. Each instance comes with the process id of its agent, None while that does not run."""
    return {
        "control_plane": {"address": address, "pid": control_plane_pid, "xds": xds, "metrics": metrics},
        "gateway": None,
        "dashboard": None,
        "workloads": [_entry(instance, agent_pid) for instance, agent_pid in instances],
    }


def _entry(instance: Instance, agent_pid: int | None) -> dict[str, Any]:
    addresses, report = instance.addresses, instance.report
    # Nothing of an instance outlives its agent, and what a former agent reported is no more.
    alive = agent_pid is not None and report.agent_pid == agent_pid
    return {
        "name": instance.workload,
        "namespace": instance.namespace,
        "service": instance.service,
        "version": instance.version,
        "instance": instance.instance,
        "identity": instance.identity,
        "pid": (alive and report.pid) or None,
        "address": addresses.app.get(instance.first_port),
        "agent": {"pid": agent_pid},
        "envoy": {
            "pid": (alive and report.envoy_pid) or None,
            "admin": f"unix:{addresses.admin}",
            "inbound": addresses.inbound.get(instance.first_port),
            "outbound": addresses.outbound or None,
            "upstreams": dict(sorted(addresses.upstreams.items())),
        },
    }
