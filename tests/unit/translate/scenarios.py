"""Small meshes, each with a sidecar to look at. Goldens, Envoy's own check and the lint go over all of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from mesh.model.address import Address
from mesh.model.documents import Documents
from mesh.model.schema import Idempotency, Method, Schema
from mesh.model.shape import Instance
from mesh.translate.bootstrap import bootstrap
from mesh.translate.resources import Resources, instance_resources, resources_for
from tests.builders import a_grpc_route, a_policy, a_view, a_workload, an_http_route, an_instance, documents

XDS = Address("127.0.0.1", 18000)
_RETRY = (
    "{targetRefs: [{kind: Service, name: stock}], retry: {numRetries: 3, retryOn: {triggers: [unavailable]}, "
    "allowUnsafe: true, perRetry: {timeout: 250ms, backOff: {baseInterval: 10ms, maxInterval: 1s}}}}"
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The sidecars of workload `web` in a mesh, in which the `methods` of service `shop/stock` are known."""

    mesh: Documents
    methods: tuple[Method, ...] = ()

    @property
    def instance(self) -> Instance:
        return an_instance(self.mesh, "web")

    @property
    def shared(self) -> Resources:
        schemas = {("shop", "stock", "v1"): Schema.of(self.methods)} if self.methods else {}
        return resources_for(a_view(self.mesh, "web", schemas))

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
        routes = {one.name: {**as_json(one), "validate_clusters": False} for one in self.shared.routes}
        listeners = [as_json(listener) for listener in self.own.listeners]
        for manager in (one["filter_chains"][0]["filters"][-1]["typed_config"] for one in listeners):
            if rds := manager.pop("rds", None):
                manager["route_config"] = routes[rds["route_config_name"]]
        config["static_resources"]["listeners"] = listeners
        return config


def as_json(message: Message) -> dict[str, Any]:
    """In Envoy's field names."""
    shown: dict[str, Any] = json.loads(MessageToJson(message, preserving_proto_field_name=True))
    return shown


CANARY = a_grpc_route(
    "canary",
    "{matches: [{method: {service: shop.Stock, method: Take}, headers: [{name: x-canary, value: 'v[0-9]',"
    "type: RegularExpression}]}], backendRefs: [{name: stock-v2, port: 50051}],"
    "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: stock, port: 50051},"
    "fraction: {numerator: 1, denominator: 3}}},"
    "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: share, value: 100%}], remove: [x-old]}}]},"
    "{backendRefs: [{name: stock, port: 50051, weight: 90}, {name: stock-v2, port: 50051, weight: 9,"
    "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: v, value: v2}]}}]},"
    "{name: gone, port: 50051}]}",
    "stock",
)
NOWHERE = a_grpc_route("nowhere", "{backendRefs: [{name: stock, port: 50051, weight: 0}]}", "stock")
PAGES = an_http_route(
    "pages",
    "{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https,"
    "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, statusCode: 301}}]},"
    "{matches: [{path: {value: /v1}}], filters: [{type: URLRewrite, urlRewrite: {hostname: b.test,"
    "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}], backendRefs: [{name: web, port: 80}],"
    "timeouts: {request: 2s, backendRequest: 1s}, retry: {codes: [503], attempts: 3}},"
    "{matches: [{path: {type: Exact, value: /all}, method: GET, queryParams: [{name: q, value: '1'}]}],"
    "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /none}}}],"
    "backendRefs: [{name: web, port: 80}], timeouts: {backendRequest: 1s}, retry: {attempts: 0}},"
    "{matches: [{path: {type: RegularExpression, value: '/[0-9]+'}}]}",
)
TOGETHER = a_policy(
    "together",
    "{targetRefs: [{kind: Service, name: stock}], timeouts: {request: 2s, streamIdle: 60s, maxStreamDuration: 0s},"
    "loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: X-User}}}}",
)
METHODS = (
    Method("shop.Stock", "Take"),
    Method("shop.Stock", "Look", idempotency=Idempotency.NO_SIDE_EFFECTS),
    Method("shop.Stock", "Watch", server_streaming=True),
)
STOCK_V2 = a_workload("stock-v2", "service: stock, version: v2, port: 50051")

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
    "canary": Scenario(
        documents(a_workload("web", "upstreams: [{service: stock}]"), a_workload("stock"), STOCK_V2, CANARY, TOGETHER),
        METHODS,
    ),
    "nowhere": Scenario(
        documents(a_workload("web", "upstreams: [{service: stock}]"), a_workload("stock"), NOWHERE), METHODS
    ),
    "pages": Scenario(documents(a_workload("web", "ports: [{port: 80, appProtocol: http}]"), PAGES)),
    "many-pages": Scenario(
        documents(
            a_workload("web", "ports: [{port: 80, appProtocol: http}]"),
            PAGES,
            an_http_route(
                "more",
                f"{{matches: [{', '.join(f'{{path: {{value: /p{n}}}}}' for n in range(40))}],"
                "backendRefs: [{name: web, port: 80}]}",
            ),
        )
    ),
    "many-methods": Scenario(
        documents(
            a_workload("web", "upstreams: [{service: stock}]"),
            a_workload("stock"),
            STOCK_V2,
            CANARY,
            a_grpc_route(
                "regex",
                "{matches: [{method: {type: RegularExpression, service: 'shop[.]S.*', method: 'M1'}},"
                "{method: {method: M2}}, {method: {service: shop.Stock, method: M3}}, {method: {service: a.B}}],"
                "backendRefs: [{name: stock-v2, port: 50051}]}",
                "stock",
            ),
        ),
        (*METHODS, *(Method("shop.Stock", f"M{n}") for n in range(40))),
    ),
    "no-retry": Scenario(
        documents(
            a_workload("web", "upstreams: [{service: stock}]"),
            a_workload("stock"),
            a_policy("retry", "{targetRefs: [{kind: Service, name: stock}], retry: {disabled: true}}"),
        )
    ),
}
