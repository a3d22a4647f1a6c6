"""Between bytes and the values of the protocol, in both of its variants."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import Final, Generic

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.errors import ProtocolError
from mesh.snapshot.resource import Resource, type_url
from mesh.xds.delta import DeltaStream
from mesh.xds.messages import Content, Response
from mesh.xds.sotw import SotwStream
from mesh.xds.stages import R, Stages

Message = discovery_pb2.DeltaDiscoveryResponse | discovery_pb2.DiscoveryResponse


@dataclass(frozen=True, slots=True, eq=False)
class Variant(Generic[R]):
    """One of the two forms of the protocol.

    `open` takes a name that no other stream has, and the only type of the stream or an empty string. `message` is what
    a response is on the wire, `head` one without its resources, and `head_of` what comes before each of these.
    """

    name: str
    request: type[R]
    open: Callable[[str, str], Stages[R]]
    message: Callable[..., Message]
    head: Callable[[Content], Message]
    head_of: Callable[[Resource], bytes]

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
        content = response.content
        body = self._once(content.bodies, lambda: (self.head(content).SerializeToString(), *self._resources(content)))
        return b"".join((*body, _signature(self.message, identifier), _nonce(response.nonce)))

    def _resources(self, content: Content) -> Iterator[bytes]:
        if content.whole is None:
            return self._fields(content.resources)
        parts = content.whole.parts or (content.whole,)
        return chain.from_iterable(self._once(part.bodies, partial(self._fields, part.values())) for part in parts)

    def _fields(self, resources: Iterable[Resource]) -> Iterator[bytes]:
        """Each resource is a field of its own, which ends with its value."""
        for resource in resources:
            head = resource.heads.get(self.name)
            if head is None:
                head = resource.heads[self.name] = self.head_of(resource)
            yield head
            yield resource.value

    def _once(self, bodies: dict[str, bytes], make: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
        """What `make` returns, joined and kept from the second time on: what is one proxy's own is mostly said once."""
        body = bodies.get(self.name)
        if body is None:
            bodies[self.name] = b""
            return make()
        if not body:
            body = bodies[self.name] = b"".join(make())
        return (body,)


@cache
def _signature(message: Callable[..., Message], identifier: str) -> bytes:
    return message(control_plane=base_pb2.ControlPlane(identifier=identifier)).SerializeToString()


def _nonce(nonce: str) -> bytes:
    """The field of either message that is made for each response, and so without a message of its own."""
    return _field(discovery_pb2.DeltaDiscoveryResponse.NONCE_FIELD_NUMBER, len(nonce)) + nonce.encode("ascii")


def _delta(content: Content) -> Message:
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=content.type_url,
        system_version_info=content.version,
        resources=[_wrapped(resource) for resource in content.heartbeats],
        removed_resources=content.removed,
    )


def _sotw(content: Content) -> Message:
    head = discovery_pb2.DiscoveryResponse(type_url=content.type_url, version_info=content.version)
    for resource in content.heartbeats:
        head.resources.add().Pack(_wrapped(resource))
    return head


def _head_in_delta(resource: Resource) -> bytes:
    body = _head_of_wrapped(resource)
    return _field(discovery_pb2.DeltaDiscoveryResponse.RESOURCES_FIELD_NUMBER, len(body) + len(resource.value)) + body


def _head_in_sotw(resource: Resource) -> bytes:
    body = _head_of_any(resource.type_url, len(resource.value))
    if resource.ttl:
        inner = _head_of_wrapped(resource)
        body = _head_of_any(type_url(discovery_pb2.Resource), len(inner) + len(resource.value)) + inner
    return _field(discovery_pb2.DiscoveryResponse.RESOURCES_FIELD_NUMBER, len(body) + len(resource.value)) + body


def _head_of_wrapped(resource: Resource) -> bytes:
    """Name, version and the like first: the fields of a message may come in any order."""
    packed = _head_of_any(resource.type_url, len(resource.value))
    field = _field(discovery_pb2.Resource.RESOURCE_FIELD_NUMBER, len(packed) + len(resource.value))
    return _wrapped(resource).SerializeToString() + field + packed


def _head_of_any(type_url: str, length: int) -> bytes:
    return Any(type_url=type_url).SerializeToString() + _field(Any.VALUE_FIELD_NUMBER, length)


def _field(number: int, length: int) -> bytes:
    """The start of a field of so many bytes. https://protobuf.dev/programming-guides/encoding"""
    head = bytearray((number << 3 | 2,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def _wrapped(resource: Resource) -> discovery_pb2.Resource:
    """Without its body, which alone says that the resource still holds."""
    return discovery_pb2.Resource(name=resource.name, version=resource.version, ttl=resource.ttl)


DELTA: Final = Variant(
    "delta",
    discovery_pb2.DeltaDiscoveryRequest,
    DeltaStream,
    discovery_pb2.DeltaDiscoveryResponse,
    _delta,
    _head_in_delta,
)
SOTW: Final = Variant(
    "sotw", discovery_pb2.DiscoveryRequest, SotwStream, discovery_pb2.DiscoveryResponse, _sotw, _head_in_sotw
)
