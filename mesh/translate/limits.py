"""What a proxy takes at the most, of whoever speaks to it, and what it does when that is not enough."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from mesh.api.envoy.config.core.v3 import protocol_pb2
from mesh.api.envoy.config.overload.v3 import overload_pb2
from mesh.api.envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from mesh.api.envoy.extensions.resource_monitors.fixed_heap.v3 import fixed_heap_pb2
from mesh.translate.wrappers import duration, typed_config, uint32

MAX_CONNECTIONS: Final = 4096
"""From other workloads, over all inbound ports. Those of the service itself are not counted: nobody can use them up."""

HANDSHAKE: Final = timedelta(seconds=5)
"""For the first bytes of a connection, and for TLS. A caller's sidecar waits no longer for either (CONNECT_TIMEOUT)."""

EARLY_DATA: Final = 1 << 16
"""Bytes that a caller of a TCP port may send before the service has taken the connection."""

HEADERS_WITHIN: Final = timedelta(seconds=10)
"""From the first byte of a request to the last of its headers."""

MAX_HEADERS: Final = 100
MAX_HEADERS_KIB: Final = 60
MAX_STREAMS: Final = 1024
"""Envoy's own since 1.36, said here because they are promised. gRPC libraries take 8 to 16 KiB of headers."""

MAX_HEAP: Final = 1 << 30
"""Bytes. A proxy has 15 MB of its own, a full mesh of a thousand services 100 MB; the rest is what others send."""

HEAP: Final = "envoy.resource_monitors.fixed_heap"
ACTIONS: Final[Mapping[str, float]] = {
    "envoy.overload_actions.shrink_heap": 0.90,
    "envoy.overload_actions.disable_http_keepalive": 0.92,
    "envoy.overload_actions.stop_accepting_requests": 0.95,
    "envoy.overload_actions.stop_accepting_connections": 0.98,
}
"""What is done from which share of MAX_HEAP on. First what costs no call."""

RESET_STREAMS: Final = "envoy.overload_actions.reset_high_memory_stream"
RESETS: Final = (0.85, 0.95)
"""Between these shares the streams that hold the most are ended, those of LARGE_STREAM last."""
LARGE_STREAM: Final = 20
"""A stream counts when it holds 2 to this many bytes: 1 MiB."""


def downstream_http2() -> protocol_pb2.Http2ProtocolOptions:
    """HTTP/2 as callers may use it. Windows stay Envoy's, which are good since 1.36: smaller ones cost up to 2.2."""
    return protocol_pb2.Http2ProtocolOptions(max_concurrent_streams=uint32(MAX_STREAMS))


def overload() -> overload_pb2.OverloadManager:
    """At most `MAX_CONNECTIONS` from callers, and about `MAX_HEAP` bytes of memory."""
    connections = downstream_connections_pb2.DownstreamConnectionsConfig(
        max_active_downstream_connections=MAX_CONNECTIONS
    )
    return overload_pb2.OverloadManager(
        refresh_interval=duration(timedelta(seconds=1)),
        resource_monitors=[
            overload_pb2.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections",
                typed_config=typed_config(connections),
            ),
            overload_pb2.ResourceMonitor(
                name=HEAP, typed_config=typed_config(fixed_heap_pb2.FixedHeapConfig(max_heap_size_bytes=MAX_HEAP))
            ),
        ],
        actions=[
            *(overload_pb2.OverloadAction(name=name, triggers=[_from(share)]) for name, share in ACTIONS.items()),
            overload_pb2.OverloadAction(name=RESET_STREAMS, triggers=[_growing(*RESETS)]),
        ],
        buffer_factory_config=overload_pb2.BufferFactoryConfig(minimum_account_to_track_power_of_two=LARGE_STREAM),
    )


def _from(share: float) -> overload_pb2.Trigger:
    return overload_pb2.Trigger(name=HEAP, threshold=overload_pb2.ThresholdTrigger(value=share))


def _growing(begins: float, whole: float) -> overload_pb2.Trigger:
    scaled = overload_pb2.ScaledTrigger(scaling_threshold=begins, saturation_threshold=whole)
    return overload_pb2.Trigger(name=HEAP, scaled=scaled)
