"""What a proxy gets, from files alone: through the same policy and translation as in the control plane."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from mesh.agent.addresses import addresses_for, port_names
from mesh.agent.folders import Folders
from mesh.agent.plan import plan_from
from mesh.agent.ports import LOOPBACK, PortBook
from mesh.config import parse
from mesh.config.nearest import not_found
from mesh.controlplane import wire
from mesh.controlplane.plan import launch_plan
from mesh.errors import ConfigError, UsageError
from mesh.local.known import known_schemas
from mesh.local.state import State
from mesh.local.supervisor import CONTROL_PLANE_OWNER, Files
from mesh.model.address import Address
from mesh.model.documents import Documents
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import shape_of
from mesh.model.topology import Topology, topology_of
from mesh.model.workload import Workload
from mesh.policy.references import unresolved
from mesh.policy.view import view_for
from mesh.registry.documents import together
from mesh.registry.leases import Lease, Report, endpoints_of, instance_of
from mesh.registry.operations import Desired
from mesh.registry.store import attached_at
from mesh.snapshot.references import references
from mesh.snapshot.seal import part, seal
from mesh.snapshot.types import ROUTE
from mesh.translate.bootstrap import bootstrap
from mesh.translate.endpoint import load_assignment
from mesh.translate.resources import instance_resources, resources_for

UNKNOWN_SOCKET: Final = "admin.sock"


@dataclass(frozen=True, slots=True)
class Rendered:
    """`config` is all that the proxy gets, in Envoy's own field names; None when there are `problems`."""

    config: Mapping[str, Any] | None
    problems: tuple[ConfigError, ...] = ()
    warnings: tuple[ConfigError, ...] = ()


def rendered(files: Files, proxy: str, state: State | None) -> Rendered:
    """The configuration of the proxy that `proxy` names: a workload (its first instance) or an instance.

    Addresses are those that `state` knows, else 127.0.0.1:0. Each workload has the instances that are attached there,
    else as many as its replicas, all of them healthy. Raises NotFoundError or UsageError when `proxy` does not name one
    proxy.
    """
    call = together(parse(file.text, file.path, file.folder) for file in files)
    if call.problems:
        return Rendered(None, call.problems)
    documents = Documents.of(written.resource for written in call.documents)
    attached = attached_at(state.database) if state else ()
    mesh = Planned(documents, topology_of(documents, known_schemas(documents, state)), state, frozenset(attached))
    workload, id_ = mesh.named(proxy)
    return Rendered(mesh.config_of(workload, id_), warnings=unresolved(documents, mesh.topology))


@dataclass(frozen=True, slots=True)
class Planned:
    """A mesh as it would run."""

    documents: Documents
    topology: Topology
    state: State | None
    attached: frozenset[InstanceId]

    def named(self, proxy: str) -> tuple[Workload, InstanceId]:
        """What `orders`, `orders-1`, `bookstore/orders` or `bookstore/orders/orders-1` means."""
        *spaces, name = proxy.split("/")
        namespace = spaces[0] if spaces else ""
        found = [
            (each, InstanceId(each.namespace, each.name, name) if name != each.name else self._first(each))
            for each in self.documents.workloads
            if namespace in ("", each.namespace) and re.fullmatch(rf"{re.escape(each.name)}(-[0-9]+)?", name)
        ]
        if not found:
            raise not_found(proxy, "proxy", name, (each.name for each in self.documents.workloads), "Workloads")
        if len(found) > 1:
            candidates = ", ".join(id_.node_id for _, id_ in found)
            raise UsageError(proxy, f"several proxies have this name: {candidates}", "Name one of them in full")
        return found[0]

    def config_of(self, workload: Workload, id_: InstanceId) -> dict[str, Any]:
        instance = instance_of(self._lease(workload, id_), self.topology)
        shared = resources_for(view_for(shape_of(workload, self.topology), self.topology, self.documents))
        own = instance_resources(instance)
        seal(part(shared), part(own))  # refuses what contradicts itself
        started = bootstrap(instance, Address(LOOPBACK, self._ports(CONTROL_PLANE_OWNER).get("xds", 0)))
        clusters = [*shared.clusters, *own.clusters]
        asked_for = {reference for listener in own.listeners for reference in references(listener)}
        return {
            "bootstrap": _plain(started),
            "clusters": _sorted(clusters),
            "endpoints": self._endpoints(workload, [*clusters, *started.static_resources.clusters]),
            "listeners": _sorted(own.listeners),
            "routes": _sorted(route for route in shared.routes if (ROUTE, route.name) in asked_for),
            "runtimes": _sorted(shared.runtimes),
            "extensions": _sorted(shared.extensions),
        }

    def _endpoints(self, workload: Workload, clusters: Iterable[Any]) -> list[dict[str, Any]]:
        """What Envoy asks for: the endpoints of each cluster that has its own by EDS."""
        there = endpoints_of(
            self._lease(each, id_) for each in self.documents.workloads for id_ in self._instances(each)
        )
        names = {cluster.eds_cluster_config.service_name or cluster.name for cluster in clusters if _by_eds(cluster)}
        targets = map(Target.from_cluster, sorted(names))
        return [_plain(load_assignment(target, there.get(target, ()), workload.locality)) for target in targets]

    def _instances(self, workload: Workload) -> list[InstanceId]:
        attached = [
            id_ for id_ in self.attached if (id_.namespace, id_.workload) == (workload.namespace, workload.name)
        ]
        return sorted(attached) or [_numbered(workload, n) for n in range(workload.replicas)]

    def _first(self, workload: Workload) -> InstanceId:
        return next(iter(self._instances(workload)), _numbered(workload, 0))

    def _lease(self, workload: Workload, id_: InstanceId) -> Lease:
        """The instance as if it ran and were healthy."""
        trust_domain = self.documents.mesh.trust_domain
        plan = plan_from(launch_plan(Desired(workload, workload.replicas, "", ""), trust_domain))
        known = self._ports(id_.node_id)
        admin = str(Folders(self.state.folder, self.state.run, id_).admin) if self.state else UNKNOWN_SOCKET
        addresses = addresses_for(plan, {name: known.get(name, 0) for name in port_names(plan)}, admin)
        return Lease(
            id_,
            generation=plan.generation,
            workload=workload,
            document="",
            identity=Identity(trust_domain, workload.namespace, workload.service_account),
            addresses=wire.addresses(addresses.message),
            report=Report(healthy=True),
            was_healthy=True,
        )

    def _ports(self, owner: str) -> Mapping[str, int]:
        return PortBook(self.state.ports).ports_of(owner) if self.state else {}


def _numbered(workload: Workload, number: int) -> InstanceId:
    return InstanceId(workload.namespace, workload.name, f"{workload.name}-{number}")


def _by_eds(cluster: Any) -> bool:
    return bool(cluster.type == cluster.EDS)


def _sorted(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return sorted(map(_plain, messages), key=lambda message: str(message["name"]))


def _plain(message: Message) -> dict[str, Any]:
    """With sorted keys: maps of a message have no order, and equal configuration is to look equal."""
    plain: dict[str, Any] = json.loads(MessageToJson(message, preserving_proto_field_name=True, sort_keys=True))
    return plain
