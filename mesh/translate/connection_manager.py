"""The HTTP connection manager of every listener that speaks HTTP. Its fields never change; policy is in the routes."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from google.protobuf.struct_pb2 import Struct

from mesh.api.envoy.config.accesslog.v3 import accesslog_pb2
from mesh.api.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from mesh.api.envoy.config.core.v3 import extension_pb2 as core_extension_pb2
from mesh.api.envoy.config.core.v3 import protocol_pb2, substitution_format_string_pb2
from mesh.api.envoy.config.listener.v3 import listener_components_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from mesh.api.envoy.type.matcher.v3 import string_pb2
from mesh.model.workload import Protocol
from mesh.translate.access_log import failed_calls, tapped_calls
from mesh.translate.http_filter import HttpFilter, inbound_filters, outbound_filters
from mesh.translate.limits import HEADERS_WITHIN, MAX_HEADERS, MAX_HEADERS_KIB, downstream_http2
from mesh.translate.source import ADS
from mesh.translate.wrappers import boolean, duration, typed_config, uint32

HTTP_CONNECTION_MANAGER: Final = "envoy.filters.network.http_connection_manager"
IDLE_TIMEOUT: Final = timedelta(hours=1)
MAX_AGE: Final = timedelta(minutes=30)
"""A connection keeps the certificates of its handshake, so inbound ones end, when no stream runs, at this age.

The same for every lifetime of leaves: a listener that changes cuts its streams, when the time to drain is over.
"""

_Manager = http_connection_manager_pb2.HttpConnectionManager


def inbound_manager(protocol: Protocol, *, stat_prefix: str, routes: str) -> listener_components_pb2.Filter:
    """For calls of other workloads. What they may do to the service by headers alone is little."""
    manager = _manager(stat_prefix, routes, protocol, inbound_filters())
    manager.MergeFrom(
        _Manager(
            common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
                max_connection_duration=duration(MAX_AGE),
                # CGI and WSGI read `x_forwarded_client_cert` as the header of the better name. gRPC does not.
                headers_with_underscores_action=protocol_pb2.HttpProtocolOptions.ALLOW
                if protocol is Protocol.GRPC
                else protocol_pb2.HttpProtocolOptions.DROP_HEADER,
            ),
            request_headers_timeout=duration(HEADERS_WITHIN),
            # The path of a gRPC call names a method exactly, or none.
            normalize_path=boolean(protocol is not Protocol.GRPC),
            # `x-forwarded-client-cert` says who calls, by the certificate, and nothing that the caller says.
            forward_client_cert_details=_Manager.SANITIZE_SET,
            set_current_client_cert_details=_Manager.SetCurrentClientCertDetails(uri=True),
        )
    )
    return _filter(manager)


def outbound_manager(protocol: Protocol | None, *, stat_prefix: str, routes: str) -> listener_components_pb2.Filter:
    """For calls of the service itself; `protocol` None takes what the connection speaks."""
    return _filter(_manager(stat_prefix, routes, protocol, outbound_filters()))


def _manager(stat_prefix: str, routes: str, codec: Protocol | None, filters: Iterable[HttpFilter]) -> _Manager:
    only_http2 = codec is not None and codec.speaks_http2
    return _Manager(
        stat_prefix=stat_prefix,
        codec_type=_Manager.HTTP2 if only_http2 else _Manager.AUTO,
        rds=http_connection_manager_pb2.Rds(config_source=ADS, route_config_name=routes),
        http_filters=filters,
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=duration(IDLE_TIMEOUT), max_headers_count=uint32(MAX_HEADERS)
        ),
        max_request_headers_kb=uint32(MAX_HEADERS_KIB),
        # HTTP/1.0 is what nginx speaks to those behind it unless told otherwise.
        http_protocol_options=None if only_http2 else protocol_pb2.Http1ProtocolOptions(accept_http_10=True),
        http2_protocol_options=downstream_http2(),
        upgrade_configs=[] if only_http2 else [_Manager.UpgradeConfig(upgrade_type="websocket")],
        # Deadlines come from the call; an idle stream is no mistake.
        stream_idle_timeout=duration(timedelta(0)),
        # Ids and server names of the service pass through as they are.
        generate_request_id=boolean(False),
        server_header_transformation=_Manager.PASS_THROUGH,
        early_header_mutation_extensions=[without_orders()],
        access_log=[failed_calls(), tapped_calls()],
        local_reply_config=local_replies(),
    )


def without_orders() -> core_extension_pb2.TypedExtensionConfig:
    """Takes away every `x-envoy-*` header before anything reads it: they would change timeouts, retries and faults.

    Those of the service itself, too: it may only pass on what its own caller wrote. Its deadline is `grpc-timeout`.
    """
    ours = mutation_rules_pb2.HeaderMutation.RemoveOnMatch(key_matcher=string_pb2.StringMatcher(prefix="x-envoy-"))
    config = header_mutation_pb2.HeaderMutation(mutations=[mutation_rules_pb2.HeaderMutation(remove_on_match=ours)])
    return core_extension_pb2.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation", typed_config=typed_config(config)
    )


def _filter(manager: _Manager) -> listener_components_pb2.Filter:
    return listener_components_pb2.Filter(name=HTTP_CONNECTION_MANAGER, typed_config=typed_config(manager))


def local_replies() -> http_connection_manager_pb2.LocalReplyConfig:
    """Envoy's own errors as JSON, for callers that do not speak gRPC; those that do get a status and a message."""
    body = Struct()
    body.update({"code": "%RESPONSE_CODE%", "message": "%LOCAL_REPLY_BODY%", "details": "%RESPONSE_CODE_DETAILS%"})
    no_grpc = accesslog_pb2.AccessLogFilter(
        header_filter=accesslog_pb2.HeaderFilter(
            header=route_components_pb2.HeaderMatcher(
                name="content-type",
                string_match=string_pb2.StringMatcher(prefix="application/grpc"),
                invert_match=True,
                treat_missing_header_as_empty=True,
            )
        )
    )
    return http_connection_manager_pb2.LocalReplyConfig(
        mappers=[
            http_connection_manager_pb2.ResponseMapper(
                filter=no_grpc,
                body_format_override=substitution_format_string_pb2.SubstitutionFormatString(json_format=body),
            )
        ]
    )
