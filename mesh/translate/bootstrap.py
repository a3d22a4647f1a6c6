"""The bootstrap: what Envoy knows before it has spoken with the control plane. It cannot change while Envoy runs."""

from datetime import timedelta
from typing import Final

from google.protobuf.struct_pb2 import Struct

from mesh.api.envoy.config.bootstrap.v3 import bootstrap_pb2
from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2, protocol_pb2
from mesh.api.envoy.config.metrics.v3 import stats_pb2
from mesh.api.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from mesh.api.envoy.type.matcher.v3 import string_pb2
from mesh.model.address import Address
from mesh.model.names import (
    CONTROL_PLANE_HOST,
    LOCAL_CLUSTER,
    RUNTIME_LAYER,
    TELEMETRY_CLUSTER,
    XDS_CLUSTER,
    Target,
    control_plane_identity,
)
from mesh.model.shape import Instance
from mesh.translate.address import pipe
from mesh.translate.endpoint import fixed_assignment
from mesh.translate.limits import overload
from mesh.translate.protocol import HTTP_PROTOCOL_OPTIONS
from mesh.translate.source import ADS, ADS_AT_START
from mesh.translate.tls import upstream_tls
from mesh.translate.wrappers import duration, typed_config

STATS: Final = (
    "cluster_manager.warming_clusters",
    "control_plane.connected_state",
    "envoy.overload_actions.reset_high_memory_stream.count",
    "http.inbound.downstream_cx_active",
    "http.inbound.downstream_rq_active",
    "http.outbound.downstream_rq_active",
    "http2.header_overflow",
    "http.inbound.downstream_cx_protocol_error",
    "http.inbound.downstream_rq_header_timeout",
    "http.inbound.downstream_rq_overload_close",
    "http.inbound.downstream_rq_too_many_premature_resets",
    "http.inbound.rbac.denied",
    "inbound.rbac.allowed",
    "inbound.rbac.denied",
    "listener.inbound.downstream_cx_active",
    "listener.inbound.downstream_cx_transport_socket_connect_timeout",
    "listener.inbound.downstream_global_cx_overflow",
    "listener.inbound.downstream_pre_cx_timeout",
    "listener.inbound.no_filter_chain_match",
    "listener.inbound.ssl.connection_error",
    "listener.inbound.ssl.fail_verify_error",
    "listener.inbound.ssl.fail_verify_no_cert",
    "listener.inbound.ssl.fail_verify_san",
    "listener.inbound.ssl.handshake",
    "listener_manager.listener_create_failure",
    "listener_manager.total_listeners_active",
    "listener_manager.total_listeners_warming",
    "listener_manager.workers_started",
    "overload.envoy.overload_actions.disable_http_keepalive.active",
    "overload.envoy.overload_actions.shrink_heap.active",
    "overload.envoy.overload_actions.stop_accepting_connections.active",
    "overload.envoy.overload_actions.stop_accepting_requests.active",
    "overload.envoy.resource_monitors.fixed_heap.pressure",
    "server.live",
    "server.dynamic_unknown_fields",
    "tcp.inbound.downstream_cx_active",
)
STATS_OF_CLUSTERS: Final = (
    ".membership_healthy",
    ".membership_total",
    ".upstream_cx_active",
    ".upstream_rq_active",
    ".upstream_rq_total",
    ".upstream_rq_retry",
    ".upstream_rq_retry_overflow",
    ".upstream_rq_pending_overflow",
    ".outlier_detection.ejections_active",
    ".ssl.fail_verify_san",
    ".update_rejected",
)


def bootstrap(instance: Instance, xds: Address) -> bootstrap_pb2.Bootstrap:
    """The bootstrap of one instance, whose control plane serves xDS at `xds`."""
    return bootstrap_pb2.Bootstrap(
        node=node(instance),
        admin=bootstrap_pb2.Admin(address=pipe(instance.admin)),
        dynamic_resources=bootstrap_pb2.Bootstrap.DynamicResources(
            ads_config=config_source_pb2.ApiConfigSource(
                api_type=config_source_pb2.ApiConfigSource.DELTA_GRPC,
                transport_api_version="V3",
                set_node_on_first_message_only=True,
                grpc_services=[
                    grpc_service_pb2.GrpcService(
                        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER)
                    )
                ],
            ),
            cds_config=ADS_AT_START,
            lds_config=ADS_AT_START,
        ),
        static_resources=bootstrap_pb2.Bootstrap.StaticResources(
            clusters=[
                control_plane(XDS_CLUSTER, instance, xds),
                control_plane(TELEMETRY_CLUSTER, instance, xds),
                *own_zone(instance),
            ]
        ),
        cluster_manager=bootstrap_pb2.ClusterManager(local_cluster_name=LOCAL_CLUSTER if instance.ports else ""),
        layered_runtime=runtime(),
        overload_manager=overload(),
        stats_config=stats(),
        deferred_stat_options=bootstrap_pb2.Bootstrap.DeferredStatOptions(enable_deferred_creation_stats=True),
    )


def node(instance: Instance) -> base_pb2.Node:
    metadata = Struct()
    metadata.update({"namespace": instance.id.namespace, "service": instance.service, "version": instance.version})
    return base_pb2.Node(
        id=instance.id.node_id,
        cluster=f"{instance.id.namespace}/{instance.service}",
        locality=base_pb2.Locality(region=instance.locality.region, zone=instance.locality.zone),
        metadata=metadata,
    )


def control_plane(name: str, instance: Instance, address: Address) -> cluster_pb2.Cluster:
    """A cluster that ends at the control plane: its certificate, and nobody else's. A dead peer is noticed by pings."""
    http2 = protocol_pb2.Http2ProtocolOptions(
        connection_keepalive=protocol_pb2.KeepaliveSettings(
            interval=duration(timedelta(seconds=30)), timeout=duration(timedelta(seconds=10))
        ),
    )
    options = http_protocol_options_pb2.HttpProtocolOptions
    identity = control_plane_identity(instance.identity.trust_domain)
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=5)),
        load_assignment=fixed_assignment(name, address),
        typed_extension_protocol_options={
            HTTP_PROTOCOL_OPTIONS: typed_config(
                options(explicit_http_config=options.ExplicitHttpConfig(http2_protocol_options=http2))
            )
        },
        transport_socket=upstream_tls(CONTROL_PLANE_HOST, [identity.uri], ["h2"]),
    )


def own_zone(instance: Instance) -> tuple[cluster_pb2.Cluster, ...]:
    """The instances of the proxy's own service: Envoy needs them to share load by zone."""
    if not instance.ports:
        return ()
    target = Target(instance.id.namespace, instance.service, instance.ports[0].number)
    return (
        cluster_pb2.Cluster(
            name=LOCAL_CLUSTER,
            type=cluster_pb2.Cluster.EDS,
            connect_timeout=duration(timedelta(seconds=5)),
            eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS, service_name=target.cluster),
        ),
    )


def runtime() -> bootstrap_pb2.LayeredRuntime:
    """Our own settings below, what the control plane says above."""
    base = Struct()
    # An expired deadline is DEADLINE_EXCEEDED; Envoy's default is UNAVAILABLE, which callers would retry.
    base["envoy.reloadable_features.grpc_timeout_returns_deadline_exceeded"] = True
    # oghttp2 costs 1.2 times the CPU of nghttp2: pinned, although it is not the default today.
    base["envoy.reloadable_features.http2_use_oghttp2"] = False
    return bootstrap_pb2.LayeredRuntime(
        layers=[
            bootstrap_pb2.RuntimeLayer(name="base", static_layer=base),
            bootstrap_pb2.RuntimeLayer(
                name=RUNTIME_LAYER,
                rtds_layer=bootstrap_pb2.RuntimeLayer.RtdsLayer(name=RUNTIME_LAYER, rtds_config=ADS),
            ),
        ]
    )


def stats() -> stats_pb2.StatsConfig:
    """An exact list: what is not on it costs neither memory nor time."""
    return stats_pb2.StatsConfig(
        stats_matcher=stats_pb2.StatsMatcher(
            inclusion_list=string_pb2.ListStringMatcher(
                patterns=[
                    *(string_pb2.StringMatcher(exact=name) for name in STATS),
                    *(string_pb2.StringMatcher(suffix=name) for name in STATS_OF_CLUSTERS),
                ]
            )
        )
    )
