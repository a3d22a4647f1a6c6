"""A raw xDS server in this process, and what sets it: the API that everybody else uses, too."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.controlplane.debug import serving
from mesh.model.address import Address
from mesh.registry.status import StatusBoard
from mesh.xds.raw import EVERY_NODE, RawStore

ANYWHERE = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Raw:
    """`xds` leads to where clients ask, `api` to where it is set what they are told."""

    store: RawStore
    board: StatusBoard
    xds: grpc.aio.Channel
    api: grpc.aio.Channel
    xds_address: Address

    @property
    def stub(self) -> Any:
        return raw_xds_pb2_grpc.RawXdsStub(self.api)

    async def put(
        self,
        type_url: str,
        versions: Mapping[str, str],
        *,
        node_id: str = EVERY_NODE,
        version: str = "",
        replaced: Iterable[str] = (),
    ) -> None:
        """Resources by name, each of which holds nothing but its name and version."""
        resources = [a_resource(type_url, name, content) for name, content in versions.items()]
        request = raw_xds_pb2.RawXdsSetRequest(
            node_id=node_id,
            resources=resources,
            response_versions={type_url: version} if version else {},
            replaced_type_urls=replaced,
        )
        await self.stub.Set(request)

    async def remove(self, type_url: str, *names: str, node_id: str = EVERY_NODE) -> None:
        await self.stub.Remove(raw_xds_pb2.RawXdsRemoveRequest(node_id=node_id, type_url=type_url, names=names))

    async def clear(self, node_id: str = "") -> None:
        await self.stub.Clear(raw_xds_pb2.RawXdsClearRequest(node_id=node_id))


def a_resource(type_url: str, name: str, version: str) -> raw_xds_pb2.RawResource:
    content = AnyMessage(type_url=type_url, value=f"{name}={version}".encode())
    return raw_xds_pb2.RawResource(name=name, resource=content, version=version)


@asynccontextmanager
async def a_raw_server() -> AsyncIterator[Raw]:
    store, board = RawStore(), StatusBoard(lambda: datetime.now(UTC))
    async with (
        serving(store, ANYWHERE, ANYWHERE, board) as (xds, api),
        grpc.aio.insecure_channel(str(xds)) as xds_channel,
        grpc.aio.insecure_channel(str(api)) as api_channel,
    ):
        yield Raw(store, board, xds_channel, api_channel, xds)
