"""`ClientStatusDiscoveryService`: how far each proxy is, resource by resource, as tools of other meshes ask for it."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.api.envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus, UpdateFailureState
from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from mesh.api.envoy.type.matcher.v3 import node_pb2, string_pb2
from mesh.errors import UsageError
from mesh.model.names import InstanceId
from mesh.registry.registry import Registry
from mesh.registry.status import Delivery, ProxyStatus, Refused, ResourceStatus, StatusBoard, TypeStatus
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import ENDPOINT
from mesh.xds.source import Source, State

Config = csds_pb2.ClientConfig.GenericXdsConfig

STATUS: Final = {
    Delivery.ASKED: (csds_pb2.NOT_SENT, ClientResourceStatus.REQUESTED),
    Delivery.SENT: (csds_pb2.STALE, ClientResourceStatus.REQUESTED),
    Delivery.ACCEPTED: (csds_pb2.SYNCED, ClientResourceStatus.ACKED),
    Delivery.REFUSED: (csds_pb2.ERROR, ClientResourceStatus.NACKED),
    Delivery.ABSENT: (csds_pb2.SYNCED, ClientResourceStatus.DOES_NOT_EXIST),
}
"""What the management server says, and what it knows of the client."""

MATCHES: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}
"""The kinds of matchers for a node id: whether a text matches a pattern."""


class ClientStatusService(csds_pb2_grpc.ClientStatusDiscoveryServiceServicer):
    """Answers from what is now. A proxy that is not connected is listed with what it should have, as unknown."""

    def __init__(self, registry: Registry, source: Source, board: StatusBoard) -> None:
        self._registry = registry
        self._source = source
        self._board = board

    async def FetchClientStatus(
        self, request: csds_pb2.ClientStatusRequest, context: Any
    ) -> csds_pb2.ClientStatusResponse:
        return self._answer(request)

    async def StreamClientStatus(
        self, request_iterator: AsyncIterator[csds_pb2.ClientStatusRequest], context: Any
    ) -> AsyncIterator[csds_pb2.ClientStatusResponse]:
        async for request in request_iterator:
            yield self._answer(request)

    def _answer(self, request: csds_pb2.ClientStatusRequest) -> csds_pb2.ClientStatusResponse:
        matchers = request.node_matchers
        return csds_pb2.ClientStatusResponse(
            config=[
                self._client(proxy, with_contents=not request.exclude_resource_contents)
                for proxy in self._board.proxies()
                if not matchers or any(_matches(matcher, proxy.node_id) for matcher in matchers)
            ]
        )

    def _client(self, proxy: ProxyStatus, *, with_contents: bool) -> csds_pb2.ClientConfig:
        lease = self._registry.leases.get(InstanceId.from_node_id(proxy.node_id))
        state = self._source.state(proxy.node_id, lease.workload.locality) if lease else None
        configs = generic_configs(state or State(), self._board.resources(proxy.node_id), proxy.report.types)
        if not with_contents:
            configs = map(_without_contents, configs)
        return csds_pb2.ClientConfig(node=base_pb2.Node(id=proxy.node_id), generic_xds_configs=configs)


def generic_configs(
    state: State, told: Iterable[ResourceStatus] | None, types: Iterable[TypeStatus]
) -> Iterator[Config]:
    """One for each resource that a client should have, or was told about, sorted by type and name.

    `told` is None for a client that is not connected. Of endpoints only those are meant that the client follows. What
    was refused is in `error_state`, and `version_info` is then the version that the client goes on with.
    """
    told_of = {(one.type_url, one.name): one for one in told or ()}
    wanted = {(type_url, name): one for type_url, named in state.resources.items() for name, one in named.items()}
    followed = {key for key in wanted if key[0] != ENDPOINT} | told_of.keys()
    by_type = {one.type_url: one for one in types}
    for key in sorted(followed):
        of_type = by_type.get(key[0], TypeStatus(key[0]))
        if told is None:
            yield Config(type_url=key[0], name=key[1], **_content(wanted[key]))
        else:
            yield _config(key, wanted.get(key), told_of.get(key), of_type)


def _config(key: tuple[str, str], wanted: Resource | None, told: ResourceStatus | None, of_type: TypeStatus) -> Config:
    config_status, client_status = csds_pb2.NOT_SENT, ClientResourceStatus.UNKNOWN
    if told:
        config_status, client_status = STATUS[told.delivery]
        is_old = told.delivery is Delivery.ACCEPTED and told.version != (wanted.version if wanted else "")
        config_status = csds_pb2.NOT_SENT if is_old else config_status
    refused = next((one for one in of_type.refused if one.name == key[1]), None)
    return Config(
        type_url=key[0],
        name=key[1],
        config_status=config_status,
        client_status=client_status,
        last_updated=of_type.acked_at if client_status == ClientResourceStatus.ACKED else None,
        error_state=_failure(refused, wanted, of_type) if refused else None,
        **({"version_info": refused.last_good} if refused else _content(wanted)),
    )


def _content(wanted: Resource | None) -> dict[str, Any]:
    return {"version_info": wanted.version, "xds_config": _packed(wanted)} if wanted else {}


def _failure(refused: Refused, wanted: Resource | None, of_type: TypeStatus) -> UpdateFailureState:
    return UpdateFailureState(
        failed_configuration=_packed(wanted) if wanted else None,
        details=refused.error,
        version_info=refused.version,
        last_update_attempt=of_type.nacked_at,
    )


def _packed(resource: Resource) -> AnyMessage:
    return AnyMessage(type_url=resource.type_url, value=resource.value)


def _without_contents(config: Config) -> Config:
    config.ClearField("xds_config")
    if config.HasField("error_state"):
        config.error_state.ClearField("failed_configuration")
    return config


def _matches(matcher: node_pb2.NodeMatcher, node_id: str) -> bool:
    """Raises UsageError for a matcher of another kind than Proa knows."""
    if matcher.node_metadatas:
        raise UsageError("node_matchers", "proxies of this mesh have no metadata", "Match the node id")
    return not matcher.HasField("node_id") or _is(matcher.node_id, node_id)


def _is(matcher: string_pb2.StringMatcher, text: str) -> bool:
    kind = matcher.WhichOneof("match_pattern") or "exact"
    if kind not in MATCHES:
        raise UsageError("node_matchers", f"a node id cannot be matched by {kind}", f"Use one of {', '.join(MATCHES)}")
    pattern = getattr(matcher, kind)
    if matcher.ignore_case:
        text, pattern = text.lower(), pattern.lower()
    return MATCHES[kind](text, pattern)
