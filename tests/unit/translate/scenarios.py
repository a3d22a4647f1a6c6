"""Small meshes, each with a sidecar to look at. Goldens, Envoy's own check and the lint go over all of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from mesh.model.documents import Documents
from mesh.model.shape import Instance
from mesh.model.topology import Address
from mesh.translate.bootstrap import bootstrap
from mesh.translate.resources import Resources, instance_resources, resources_for
from tests.builders import a_policy, a_view, a_workload, an_instance, documents

XDS = Address("127.0.0.1", 18000)
_RETRY = (
    "{targetRefs: [{kind: Service, name: stock}], retry: {numRetries: 3, retryOn: {triggers: [unavailable]}, "
    "perRetry: {timeout: 250ms, backOff: {baseInterval: 10ms, maxInterval: 1s}}}}"
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The sidecars of workload `web` in a mesh."""

    mesh: Documents

    @property
    def instance(self) -> Instance:
        return an_instance(self.mesh, "web")

    @property
    def shared(self) -> Resources:
        return resources_for(a_view(self.mesh, "web"))

    @property
    def own(self) -> Resources:
        return instance_resources(self.instance)

    @property
    def bootstrap(self) -> dict[str, Any]:
        return as_json(bootstrap(self.instance, XDS))

    def messages(self) -> Iterator[Message]:
        for resources in (self.shared, self.own):
            yield from (*resources.clusters, *resources.listeners, *resources.routes)
            yield from (*resources.runtimes, *resources.extensions)

    def static(self) -> dict[str, Any]:
        """A bootstrap with clusters and listeners in it, for `envoy --mode validate`."""
        config = self.bootstrap
        config["static_resources"]["clusters"] += [as_json(c) for c in (*self.shared.clusters, *self.own.clusters)]
        config["static_resources"]["listeners"] = [as_json(listener) for listener in self.own.listeners]
        return config


def as_json(message: Message) -> dict[str, Any]:
    """In Envoy's field names."""
    shown: dict[str, Any] = json.loads(MessageToJson(message, preserving_proto_field_name=True))
    return shown


SCENARIOS = {
    "grpc": Scenario(documents(a_workload("web", "port: 8080, upstreams: [{service: stock}]"), a_workload("stock"))),
    "http": Scenario(
        documents(a_workload("web", "ports: [{port: 80, appProtocol: http}], upstreams: [{service: web}]"))
    ),
    "http2": Scenario(documents(a_workload("web", "ports: [{port: 80, appProtocol: http2}]"))),
    "tcp": Scenario(
        documents(a_workload("web", "ports: [{port: 5432, appProtocol: tcp}], upstreams: [{service: web}]"))
    ),
    "no-ports": Scenario(documents(a_workload("web", "upstreams: [{service: stock}]"), a_workload("stock"))),
    "retry": Scenario(
        documents(
            a_workload("web", "port: 8080, upstreams: [{service: stock}], locality: {region: r, zone: z}"),
            a_workload("stock", "port: 50051, serviceAccount: clerk"),
            a_policy("retry", _RETRY),
        )
    ),
    "two-keys-one-target": Scenario(
        documents(
            a_workload("web", "upstreams: [{service: stock}, {service: stock, port: 50051}, {service: stock.shop}]"),
            a_workload("stock"),
        )
    ),
    "no-retry": Scenario(
        documents(
            a_workload("web", "upstreams: [{service: stock}]"),
            a_workload("stock"),
            a_policy("retry", "{targetRefs: [{kind: Service, name: stock}], retry: {disabled: true}}"),
        )
    ),
}
