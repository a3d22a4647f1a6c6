"""What a sidecar takes at the most, as it is written down in docs/security.md."""

from typing import Any

from tests.unit.translate.scenarios import SCENARIOS, as_json


def managers(name: str) -> dict[str, dict[str, Any]]:
    """The HTTP connection managers of a scenario, by listener."""
    listeners = map(as_json, SCENARIOS[name].own.listeners)
    return {one["name"]: one["filter_chains"][0]["filters"][-1]["typed_config"] for one in listeners}


def test_streams_and_headers_have_a_limit() -> None:
    for name in ("grpc", "http", "http2", "retry"):
        for manager in managers(name).values():
            assert manager["http2_protocol_options"]["max_concurrent_streams"] == 1024
            assert manager["max_request_headers_kb"] == 60
            assert manager["common_http_protocol_options"]["max_headers_count"] == 100
        for cluster in map(as_json, (*SCENARIOS[name].shared.clusters, *SCENARIOS[name].own.clusters)):
            [limits] = cluster["circuit_breakers"]["thresholds"]
            assert {limits[key] for key in ("max_connections", "max_pending_requests", "max_requests")} == {10_000}


def test_only_callers_have_to_hurry() -> None:
    """A service may be as slow towards its own sidecar as it was without one."""
    inbound, outbound = managers("grpc")["inbound/8080"], managers("grpc")["outbound"]

    assert inbound["request_headers_timeout"] == "10s"
    assert "request_headers_timeout" not in outbound
    [listener, *plain] = map(as_json, SCENARIOS["grpc"].own.listeners)
    assert listener["filter_chains"][0]["transport_socket_connect_timeout"] == "5s"
    assert listener["listener_filters_timeout"] == "5s"
    assert not listener.get("bypass_overload_manager")
    assert all(one["bypass_overload_manager"] for one in plain)


def test_names_with_underscores_are_for_grpc_alone() -> None:
    def action(name: str, listener: str) -> str:
        options = managers(name)[listener]["common_http_protocol_options"]
        return str(options.get("headers_with_underscores_action", "ALLOW"))

    assert [action("grpc", "inbound/8080"), action("grpc", "outbound")] == ["ALLOW", "ALLOW"]
    assert [action("http", "inbound/80"), action("http2", "inbound/80")] == ["DROP_HEADER", "DROP_HEADER"]


def test_memory_that_runs_out_costs_the_largest_streams_first() -> None:
    manager = SCENARIOS["grpc"].bootstrap["overload_manager"]
    shares = {
        action["name"].removeprefix("envoy.overload_actions."): action["triggers"][0] for action in manager["actions"]
    }

    assert shares.pop("reset_high_memory_stream")["scaled"] == {"scaling_threshold": 0.85, "saturation_threshold": 0.95}
    assert {name: trigger["threshold"]["value"] for name, trigger in shares.items()} == {
        "shrink_heap": 0.90,
        "disable_http_keepalive": 0.92,
        "stop_accepting_requests": 0.95,
        "stop_accepting_connections": 0.98,
    }
