"""Between bytes and the values of the protocol, in both of its variants."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.errors import ProtocolError
from mesh.snapshot.resource import Resource
from mesh.xds.delta import DeltaStream
from mesh.xds.messages import Response
from mesh.xds.sotw import SotwStream
from mesh.xds.stream import R, Stream


@dataclass(frozen=True, slots=True)
class Variant(Generic[R]):
    """One of the two forms of the protocol.

    `open` takes a name that no other stream has, and the only type of the stream or an empty string. `encode` takes how
    this control plane calls itself, too; Envoy shows it in its logs and dumps.
    """

    request: type[R]
    open: Callable[[str, str], Stream[R]]
    encode: Callable[[Response, str], bytes]

    def decode(self, message: bytes) -> R:
        """Raises ProtocolError for bytes that are no such request."""
        request = self.request()
        try:
            request.ParseFromString(message)
        except DecodeError as error:
            problem = f"a message is not a {self.request.DESCRIPTOR.name}"
            raise ProtocolError("xds", problem, "Send what the service says") from error
        return request


def _encode_delta(response: Response, identifier: str) -> bytes:
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.type_url,
        nonce=response.nonce,
        system_version_info=response.version,
        control_plane=base_pb2.ControlPlane(identifier=identifier),
        resources=[
            *(_wrapped(resource, _packed(resource)) for resource in response.resources),
            *(_wrapped(resource, None) for resource in response.heartbeats),
        ],
        removed_resources=response.removed,
    ).SerializeToString()


def _encode_sotw(response: Response, identifier: str) -> bytes:
    message = discovery_pb2.DiscoveryResponse(
        type_url=response.type_url,
        nonce=response.nonce,
        version_info=response.version,
        control_plane=base_pb2.ControlPlane(identifier=identifier),
        resources=[_packed(resource) for resource in response.resources if not resource.ttl],
    )
    for resource in response.resources:
        if resource.ttl:
            message.resources.add().Pack(_wrapped(resource, _packed(resource)))
    for resource in response.heartbeats:
        message.resources.add().Pack(_wrapped(resource, None))
    return message.SerializeToString()


def _packed(resource: Resource) -> Any:
    return Any(type_url=resource.type_url, value=resource.value)


def _wrapped(resource: Resource, body: Any | None) -> discovery_pb2.Resource:
    """Without a body it only says that the resource still holds."""
    return discovery_pb2.Resource(
        name=resource.name, version=resource.version, resource=body, ttl=resource.ttl and _duration(resource.ttl)
    )


def _duration(time: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(time)
    return message


DELTA: Final = Variant(discovery_pb2.DeltaDiscoveryRequest, DeltaStream, _encode_delta)
SOTW: Final = Variant(discovery_pb2.DiscoveryRequest, SotwStream, _encode_sotw)
