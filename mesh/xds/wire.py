"""Between bytes and the values of the protocol."""

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.errors import ProtocolError
from mesh.xds.subscription import Response


def decode(message: bytes) -> discovery_pb2.DeltaDiscoveryRequest:
    """Raises ProtocolError for bytes that are no such request."""
    try:
        return discovery_pb2.DeltaDiscoveryRequest.FromString(message)
    except DecodeError as error:
        raise ProtocolError("xds", "a message is not a DeltaDiscoveryRequest", "Send what the service says") from error


def encode(response: Response, identifier: str) -> bytes:
    """`identifier` is how this control plane calls itself; Envoy shows it in its logs and dumps."""
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.type_url,
        nonce=response.nonce,
        system_version_info=response.version,
        control_plane=base_pb2.ControlPlane(identifier=identifier),
        resources=[
            discovery_pb2.Resource(
                name=resource.name,
                version=resource.version,
                resource=Any(type_url=resource.type_url, value=resource.value),
            )
            for resource in response.delta.resources
        ],
        removed_resources=response.delta.removed,
    ).SerializeToString()
