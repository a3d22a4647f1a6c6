"""When an instance is ready, and what to tell a person about one that is not. Pure."""

from collections.abc import Collection, Iterable

from mesh.api.proa.v1.status_pb2 import Instance
from mesh.local.rollout import Running, Steps, Wanted, next_steps


def is_current(instance: Instance | None, agent_pid: int | None) -> bool:
    """Whether `instance` speaks of the agent that runs now, and not of one before it."""
    return instance is not None and instance.attached and instance.report.agent_pid == agent_pid


def why_not_ready(instance: Instance | None, agent_pid: int | None) -> str:
    """What the instance waits for; empty when it is healthy and its proxy has its configuration."""
    if why := why_not_healthy(instance, agent_pid):
        return why
    if instance and not instance.report.schema_told:
        return "its methods have not been read"
    return "" if instance and instance.synced else "its proxy has not acknowledged its configuration"


def why_not_healthy(instance: Instance | None, agent_pid: int | None) -> str:
    """The same, whatever configuration is on its way."""
    if agent_pid is None:
        return "its agent does not run"
    if instance is None or not is_current(instance, agent_pid):
        return "its agent has not attached to the control plane"
    if instance.draining:
        return "it is leaving"
    if not instance.report.envoy_ready:
        return instance.report.reason or "its Envoy does not listen"
    if not instance.report.healthy:
        return instance.report.reason or "it was not found healthy"
    return ""


def is_settled(wanted: Iterable[Wanted], running: Collection[Running]) -> bool:
    """Whether exactly what is wanted runs, and all of it is ready."""
    wanted = tuple(wanted)
    return next_steps(wanted, running) == Steps() and all(one.ready and not one.stopping for one in running)
