"""Listeners of a sidecar. Once sent they keep their fields and chains; a golden test pins their bytes."""

from datetime import timedelta
from typing import Final

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from mesh.api.envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from mesh.api.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from mesh.model.address import Address
from mesh.model.names import (
    OUTBOUND,
    app_cluster,
    inbound_name,
    upstream_listener_name,
    upstream_routes_name,
    workloads_prefix,
)
from mesh.model.shape import InstancePort, InstanceUpstream
from mesh.model.workload import Protocol
from mesh.translate.access_log import failed_connections, refused_handshakes
from mesh.translate.address import socket_address
from mesh.translate.caller import callers, one_identity
from mesh.translate.connection_manager import inbound_manager, outbound_manager
from mesh.translate.limits import EARLY_DATA, HANDSHAKE
from mesh.translate.protocol import alpn
from mesh.translate.tls import downstream_tls
from mesh.translate.wrappers import boolean, duration, typed_config, uint32

TLS_INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
TCP_PROXY: Final = "envoy.filters.network.tcp_proxy"
INBOUND: Final = "inbound"
"""Prefix of the statistics of all inbound listeners together: `listener.inbound.…`, `http.inbound.…`."""

_Chain = listener_components_pb2.FilterChain


def inbound_listener(port: InstancePort, trust_domain: str) -> listener_pb2.Listener:
    """Where callers reach the workload: mutual TLS, and no chain at all for anything else."""
    name = inbound_name(port.number)
    return listener_pb2.Listener(
        name=name,
        stat_prefix=INBOUND,
        address=socket_address(port.inbound),
        traffic_direction=base_pb2.INBOUND,
        enable_reuse_port=boolean(False),
        access_log=[refused_handshakes()],
        listener_filters_timeout=duration(HANDSHAKE),
        listener_filters=[
            listener_components_pb2.ListenerFilter(
                name=TLS_INSPECTOR, typed_config=typed_config(tls_inspector_pb2.TlsInspector())
            )
        ],
        filter_chains=[
            _Chain(
                name="mtls",
                filter_chain_match=listener_components_pb2.FilterChainMatch(transport_protocol="tls"),
                filters=_to_service(port, name),
                transport_socket_connect_timeout=duration(HANDSHAKE),
                transport_socket=downstream_tls(workloads_prefix(trust_domain), alpn(port.protocol)),
            )
        ],
    )


def outbound_listener(address: Address) -> listener_pb2.Listener:
    """The port that routes by `:authority`."""
    return _plain(OUTBOUND, address, outbound_manager(None, stat_prefix=OUTBOUND, routes=OUTBOUND))


def upstream_listener(upstream: InstanceUpstream) -> listener_pb2.Listener:
    """The address of one declared upstream."""
    name, routes = upstream_listener_name(upstream.key), upstream_routes_name(upstream.target)
    if upstream.protocol is Protocol.TCP:
        return _plain(name, upstream.address, _tcp_proxy(OUTBOUND, upstream.target.cluster))
    return _plain(name, upstream.address, outbound_manager(upstream.protocol, stat_prefix=OUTBOUND, routes=routes))


def _to_service(port: InstancePort, routes: str) -> tuple[listener_components_pb2.Filter, ...]:
    if port.protocol is Protocol.TCP:
        return callers(), _tcp_proxy(INBOUND, app_cluster(port.number), when=tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE)
    return one_identity(), inbound_manager(port.protocol, stat_prefix=INBOUND, routes=routes)


def _tcp_proxy(
    stat_prefix: str, cluster: str, *, when: tcp_proxy_pb2.UpstreamConnectMode = tcp_proxy_pb2.IMMEDIATE
) -> listener_components_pb2.Filter:
    """`when` it connects: with IMMEDIATE whoever comes, with a certificate or not, costs the service a connection."""
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=stat_prefix,
        cluster=cluster,
        upstream_connect_mode=when,
        max_early_data_bytes=None if when == tcp_proxy_pb2.IMMEDIATE else uint32(EARLY_DATA),
        # Whether a quiet connection is dead is for the two ends to say.
        idle_timeout=duration(timedelta(0)),
        access_log=[failed_connections()],
    )
    return listener_components_pb2.Filter(name=TCP_PROXY, typed_config=typed_config(proxy))


def _plain(name: str, address: Address, only: listener_components_pb2.Filter) -> listener_pb2.Listener:
    """A listener for the workload itself, on loopback. It goes on while the inbound side drains, or is flooded."""
    return listener_pb2.Listener(
        name=name,
        stat_prefix=OUTBOUND,
        address=socket_address(address),
        traffic_direction=base_pb2.OUTBOUND,
        drain_type=listener_pb2.Listener.MODIFY_ONLY,
        enable_reuse_port=boolean(False),
        bypass_overload_manager=True,
        filter_chains=[_Chain(name="plaintext", filters=[only])],
    )
