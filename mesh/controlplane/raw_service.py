"""`RawXds`: what xDS clients are told, set from outside."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.errors import UsageError
from mesh.snapshot.resource import Resource, digest
from mesh.xds.raw import RawStore


class RawService(raw_xds_pb2_grpc.RawXdsServicer):
    def __init__(self, store: RawStore) -> None:
        self._store = store

    async def Set(self, request: raw_xds_pb2.RawXdsSetRequest, context: Any) -> raw_xds_pb2.RawXdsSetResponse:
        _require("node_id", request.node_id)
        resources = [_resource(message) for message in request.resources]
        _check_unique(resources)
        versions = dict(request.response_versions)
        self._store.set(request.node_id, resources, versions, replaced=request.replaced_type_urls)
        return raw_xds_pb2.RawXdsSetResponse()

    async def Remove(self, request: raw_xds_pb2.RawXdsRemoveRequest, context: Any) -> raw_xds_pb2.RawXdsRemoveResponse:
        _require("node_id", request.node_id)
        _require("type_url", request.type_url)
        self._store.remove(request.node_id, request.type_url, frozenset(request.names), request.response_version)
        return raw_xds_pb2.RawXdsRemoveResponse()

    async def Clear(self, request: raw_xds_pb2.RawXdsClearRequest, context: Any) -> raw_xds_pb2.RawXdsClearResponse:
        self._store.clear(request.node_id)
        return raw_xds_pb2.RawXdsClearResponse()


def _resource(message: raw_xds_pb2.RawResource) -> Resource:
    _require("resources.name", message.name)
    _require("resources.resource.type_url", message.resource.type_url)
    value = message.resource.value
    return Resource(
        message.name,
        message.resource.type_url,
        value,
        message.version or digest(value),
        ttl=_ttl(message) if message.HasField("ttl") else None,
    )


def _ttl(message: raw_xds_pb2.RawResource) -> timedelta:
    ttl = message.ttl.ToTimedelta()
    if ttl <= timedelta():
        raise UsageError(message.name, f"its ttl is {ttl.total_seconds():g} s", "Send one above 0, or none")
    return ttl


def _check_unique(resources: Iterable[Resource]) -> None:
    """No two of them may be in one response."""
    for (type_url, name), times in Counter((one.type_url, one.name) for one in resources).items():
        if times > 1:
            raise UsageError(name, f"it is there twice, as {type_url}", "Send it once")


def _require(field: str, value: str) -> None:
    if not value:
        raise UsageError(field, "it is empty", "Set it in the request")
