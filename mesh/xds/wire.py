"""Between bytes and the values of the protocol, in both of its variants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Final, Generic
from weakref import WeakKeyDictionary

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.errors import ProtocolError
from mesh.snapshot.resource import Resource
from mesh.xds.delta import DeltaStream
from mesh.xds.messages import Content, Response
from mesh.xds.sotw import SotwStream
from mesh.xds.stream import R, Stream

Message = discovery_pb2.DeltaDiscoveryResponse | discovery_pb2.DiscoveryResponse


@dataclass(frozen=True, slots=True, eq=False)
class Variant(Generic[R]):
    """One of the two forms of the protocol.

    `open` takes a name that no other stream has, and the only type of the stream or an empty string. `message` is what
    a response is on the wire, and `body` its bytes but for the nonce.
    """

    request: type[R]
    open: Callable[[str, str], Stream[R]]
    message: Callable[..., Message]
    body: Callable[[Content], bytes]
    _encoded: WeakKeyDictionary[Content, bytes] = field(default_factory=WeakKeyDictionary)

    def decode(self, message: bytes) -> R:
        """Raises ProtocolError for bytes that are no such request."""
        request = self.request()
        try:
            request.ParseFromString(message)
        except DecodeError as error:
            problem = f"a message is not a {self.request.DESCRIPTOR.name}"
            raise ProtocolError("xds", problem, "Send what the service says") from error
        return request

    def encode(self, response: Response, identifier: str) -> bytes:
        """`identifier` is how this control plane calls itself; Envoy shows it in its logs and dumps.

        What is the same on many streams is encoded once: messages of protobuf can be joined, and are then one.
        """
        body = self._encoded.get(response.content)
        if body is None:
            body = self._encoded[response.content] = self.body(response.content)
        nonce = self.message(nonce=response.nonce).SerializeToString()
        return b"".join((body, _signature(self.message, identifier), nonce))


@cache
def _signature(message: Callable[..., Message], identifier: str) -> bytes:
    return message(control_plane=base_pb2.ControlPlane(identifier=identifier)).SerializeToString()


def _delta(content: Content) -> bytes:
    head = discovery_pb2.DeltaDiscoveryResponse(
        type_url=content.type_url,
        system_version_info=content.version,
        resources=[_wrapped(resource, None) for resource in content.heartbeats],
        removed_resources=content.removed,
    )
    return b"".join((head.SerializeToString(), *map(_in_delta, content.resources)))


def _sotw(content: Content) -> bytes:
    head = discovery_pb2.DiscoveryResponse(type_url=content.type_url, version_info=content.version)
    for resource in content.heartbeats:
        head.resources.add().Pack(_wrapped(resource, None))
    return b"".join((head.SerializeToString(), *map(_in_sotw, content.resources)))


def _in_delta(resource: Resource) -> bytes:
    """One resource of a response, as bytes that can be joined with the others."""
    form = resource.forms.get("delta")
    if form is None:
        wrapped = _wrapped(resource, _packed(resource))
        form = discovery_pb2.DeltaDiscoveryResponse(resources=[wrapped]).SerializeToString()
        resource.forms["delta"] = form
    return form


def _in_sotw(resource: Resource) -> bytes:
    form = resource.forms.get("sotw")
    if form is None:
        message = discovery_pb2.DiscoveryResponse(resources=[_packed(resource)])
        if resource.ttl:
            message.resources[0].Pack(_wrapped(resource, _packed(resource)))
        form = resource.forms["sotw"] = message.SerializeToString()
    return form


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


DELTA: Final = Variant(discovery_pb2.DeltaDiscoveryRequest, DeltaStream, discovery_pb2.DeltaDiscoveryResponse, _delta)
SOTW: Final = Variant(discovery_pb2.DiscoveryRequest, SotwStream, discovery_pb2.DiscoveryResponse, _sotw)
