"""The lint finds what it is there to find."""

from typing import Any

import pytest

from tests.unit.translate.lint import findings

GOOD_TLS = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}}
ROUTER = {"name": "envoy.filters.http.router"}


@pytest.mark.parametrize(
    "config",
    [
        {"tracing": {}},
        {"principals": [1, 2, 3, 4]},
        {"routes": list(range(21))},
        {"common_tls_context": {}},
        {"common_tls_context": {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}},
        {"http_filters": [ROUTER, {"name": "fault"}]},
        {"http_filters": [{"name": "fault"}, ROUTER]},
        {"name": "envoy.filters.http.ext_authz"},
        {"@type": "x/envoy.extensions.filters.http.router.v3.Router"},
        {"use_oghttp2_codec": True},
        {"max_concurrent_streams": 4},
        {"per_connection_buffer_limit_bytes": 32768},
        {"initial_stream_window_size": 65536},
        {"initial_connection_window_size": 65536},
    ],
)
def test_what_is_dear_is_found(config: dict[str, Any]) -> None:
    assert list(findings([{"a": config}]))


def test_what_is_free_is_not() -> None:
    assert not list(
        findings({"common_tls_context": GOOD_TLS, "http_filters": [{"name": "f", "disabled": True}, ROUTER]})
    )
