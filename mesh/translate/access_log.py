"""What proxies log: failures always, refused handshakes, every call only while somebody looks."""

from typing import Final

from google.protobuf.struct_pb2 import Struct
from opentelemetry.proto.common.v1 import common_pb2

from mesh.api.envoy.config.accesslog.v3 import accesslog_pb2
from mesh.api.envoy.config.core.v3 import base_pb2, grpc_service_pb2, substitution_format_string_pb2
from mesh.api.envoy.extensions.access_loggers.file.v3 import file_pb2
from mesh.api.envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from mesh.api.envoy.extensions.access_loggers.grpc.v3 import als_pb2
from mesh.api.envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2
from mesh.api.envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from mesh.api.envoy.type.v3 import percent_pb2
from mesh.model.names import TELEMETRY_CLUSTER
from mesh.translate.wrappers import boolean, typed_config

TAP_KEY: Final = "proa.access_log"
"""Runtime key: how many of a hundred calls go to the telemetry cluster. Absent is none."""

CALL: Final = {
    "time": "%START_TIME%",
    "listener": "%ROUTE_NAME%",
    "authority": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "caller": "%DOWNSTREAM_PEER_URI_SAN%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}
CONNECTION: Final = {
    "time": "%START_TIME%",
    "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%CONNECTION_TERMINATION_DETAILS%",
    "refused": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}

REFUSED: Final = (
    "connection.transport_failure_reason != ''",
    "connection.termination_details != ''",
    "response.flags != 0",
)
"""Any of these is why, in Envoy's expression language: TLS said no; we did; no chain fits, or it is no HTTP."""

_Filter = accesslog_pb2.AccessLogFilter


def failed_calls() -> accesslog_pb2.AccessLog:
    """To stdout: calls whose HTTP 5xx or gRPC status points at the mesh or the service, and those that were refused."""
    at_least_500 = _Filter(
        status_code_filter=accesslog_pb2.StatusCodeFilter(
            comparison=accesslog_pb2.ComparisonFilter(
                op=accesslog_pb2.ComparisonFilter.GE,
                value=base_pb2.RuntimeUInt32(default_value=500, runtime_key="proa.error_log.min_status"),
            )
        )
    )
    statuses = accesslog_pb2.GrpcStatusFilter
    grpc = _Filter(
        grpc_status_filter=statuses(statuses=[statuses.UNAVAILABLE, statuses.INTERNAL, statuses.DEADLINE_EXCEEDED])
    )
    no_http = _Filter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=["DPE"]))
    return _stdout(_Filter(or_filter=accesslog_pb2.OrFilter(filters=[at_least_500, grpc, no_http, _denied()])), CALL)


def _denied() -> accesslog_pb2.AccessLogFilter:
    """Calls that an RBAC filter has refused, by what it leaves behind."""
    verdict = metadata_pb2.MetadataMatcher(
        filter="envoy.filters.http.rbac",
        path=[metadata_pb2.MetadataMatcher.PathSegment(key="enforced_engine_result")],
        value=value_pb2.ValueMatcher(string_match=string_pb2.StringMatcher(exact="denied")),
    )
    return _Filter(metadata_filter=accesslog_pb2.MetadataFilter(matcher=verdict, match_if_key_not_found=boolean(False)))


def tapped_calls() -> accesslog_pb2.AccessLog:
    """To the telemetry cluster: the share of all calls that the runtime key says, which is none until it is set."""
    sampled = _Filter(
        runtime_filter=accesslog_pb2.RuntimeFilter(
            runtime_key=TAP_KEY,
            percent_sampled=percent_pb2.FractionalPercent(
                numerator=0, denominator=percent_pb2.FractionalPercent.HUNDRED
            ),
            use_independent_randomness=True,
        )
    )
    log = logs_service_pb2.OpenTelemetryAccessLogConfig(
        # `grpc_service` and `log_name` take the place of common_config in 1.40; xds-protos does not have them yet.
        common_config=als_pb2.CommonGrpcAccessLogConfig(
            log_name="calls",
            grpc_service=grpc_service_pb2.GrpcService(
                envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=TELEMETRY_CLUSTER)
            ),
            transport_api_version="V3",
        ),
        attributes=common_pb2.KeyValueList(
            values=[
                common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value))
                for key, value in CALL.items()
            ]
        ),
    )
    return accesslog_pb2.AccessLog(
        name="envoy.access_loggers.open_telemetry", filter=sampled, typed_config=typed_config(log)
    )


def failed_connections() -> accesslog_pb2.AccessLog:
    """To stdout: connections of a TCP port that could not be carried."""
    return _stdout(_Filter(response_flag_filter=accesslog_pb2.ResponseFlagFilter()), CONNECTION)


def refused_handshakes() -> accesslog_pb2.AccessLog:
    """To stdout: connections that were refused before there was a call: no TLS, no certificate, a foreign one."""
    refused = cel_pb2.ExpressionFilter(expression=" || ".join(REFUSED))
    return _stdout(
        _Filter(
            extension_filter=accesslog_pb2.ExtensionFilter(
                name="envoy.access_loggers.extension_filters.cel", typed_config=typed_config(refused)
            )
        ),
        CONNECTION,
    )


def _stdout(only: accesslog_pb2.AccessLogFilter, fields: dict[str, str]) -> accesslog_pb2.AccessLog:
    log_format = Struct()
    log_format.update(fields)
    line = substitution_format_string_pb2.SubstitutionFormatString(json_format=log_format)
    return accesslog_pb2.AccessLog(
        name="envoy.access_loggers.file",
        filter=only,
        typed_config=typed_config(file_pb2.FileAccessLog(path="/dev/stdout", log_format=line)),
    )
