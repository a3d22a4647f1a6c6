"""What clusters and listeners speak, by the protocol of the port."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.any_pb2 import Any

from mesh.api.envoy.config.core.v3 import protocol_pb2
from mesh.api.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from mesh.model.workload import Protocol
from mesh.translate.wrappers import typed_config

HTTP_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

# Empty: windows and stream limits stay Envoy's, which are good since 1.36. Smaller ones cost up to 2.2 times the CPU.
HTTP2: Final = protocol_pb2.Http2ProtocolOptions()
HTTP1: Final = protocol_pb2.Http1ProtocolOptions()

_Options = http_protocol_options_pb2.HttpProtocolOptions


def to_service(protocol: Protocol) -> Mapping[str, Any]:
    """How a sidecar speaks with its own service: as the port says."""
    if protocol is Protocol.TCP:
        return {}
    explicit = _Options.ExplicitHttpConfig(
        **({"http2_protocol_options": HTTP2} if protocol.speaks_http2 else {"http_protocol_options": HTTP1})
    )
    return {HTTP_PROTOCOL_OPTIONS: typed_config(_Options(explicit_http_config=explicit))}


def between_sidecars(protocol: Protocol) -> Mapping[str, Any]:
    """How two sidecars speak. HTTP/1.1 stays HTTP/1.1 on the way, so that an upgrade (WebSocket) passes."""
    if protocol is not Protocol.HTTP:
        return to_service(protocol)
    same = _Options.UseDownstreamHttpConfig(http_protocol_options=HTTP1, http2_protocol_options=HTTP2)
    return {HTTP_PROTOCOL_OPTIONS: typed_config(_Options(use_downstream_protocol_config=same))}


def alpn(protocol: Protocol) -> tuple[str, ...]:
    """Nothing for ports where the codec is chosen by the first bytes."""
    return ("h2",) if protocol.speaks_http2 else ()
