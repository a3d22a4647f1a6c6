"""What is promised of a sidecar's resources, each by name."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict

from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.model.names import control_plane_identity
from mesh.translate.secret import leaf_secret, roots_secret
from tests.unit.translate.scenarios import SCENARIOS, as_json


def clusters(name: str) -> dict[str, dict[str, Any]]:
    return {
        cluster.name: as_json(cluster) for cluster in (*SCENARIOS[name].shared.clusters, *SCENARIOS[name].own.clusters)
    }


def routes(name: str) -> dict[str, dict[str, Any]]:
    return {route.name: as_json(route) for route in SCENARIOS[name].shared.routes}


def action(name: str, configuration: str) -> dict[str, Any]:
    [host] = routes(name)[configuration]["virtual_hosts"]
    [route] = host["routes"]
    found: dict[str, Any] = route["route"]
    return found


def actions_in(config: Any) -> Iterator[dict[str, Any]]:
    """Every action that forwards, wherever in trees it is."""
    if isinstance(config, list):
        yield from (found for one in config for found in actions_in(one))
    elif isinstance(config, dict):
        if "timeout" in config:
            yield config
        yield from (found for one in config.values() for found in actions_in(one))


def test_whoever_answers_must_prove_the_account_of_the_service() -> None:
    tls = clusters("retry")["shop/stock/50051"]["transport_socket"]["typed_config"]
    names = tls["common_tls_context"]["combined_validation_context"]["default_validation_context"]

    assert names["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://proa.local/ns/shop/sa/clerk"}}
    ]


def test_whoever_calls_must_be_a_workload_of_the_trust_domain() -> None:
    [inbound, *_] = map(as_json, SCENARIOS["grpc"].own.listeners)
    [chain] = inbound["filter_chains"]
    tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
    [name] = tls["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]

    assert chain["filter_chain_match"] == {"transport_protocol": "tls"}
    assert name == {"san_type": "URI", "matcher": {"prefix": "spiffe://proa.local/ns/"}}


def test_a_policy_reaches_the_routes_of_its_service() -> None:
    assert action("retry", "upstream/shop/stock/50051")["retry_policy"] == {
        "retry_on": "unavailable",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "1s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": "3",
    }
    assert "retry_policy" not in action("no-retry", "upstream/shop/stock/50051")


def test_no_stream_is_ended_by_a_timeout_of_the_mesh() -> None:
    for name, scenario in SCENARIOS.items():
        actions = list(actions_in([*routes(name).values()]))
        # What a rule of an HTTPRoute asks for; there are no streams that it could mean.
        assert {found["timeout"] for found in actions} <= ({"0s", "2s"} if "pages" in name else {"0s"})
        for listener in map(as_json, scenario.own.listeners):
            for chain in listener["filter_chains"]:
                config = chain["filters"][-1]["typed_config"]
                assert config.get("stream_idle_timeout", config.get("idle_timeout")) == "0s"


def test_the_deadline_of_a_grpc_call_is_kept() -> None:
    assert action("grpc", "inbound/8080")["max_stream_duration"] == {"grpc_timeout_header_max": "0s"}
    assert "max_stream_duration" not in action("http", "inbound/80")


def test_the_service_is_called_in_the_protocol_of_its_port() -> None:
    def spoken(name: str, cluster: str) -> list[str]:
        options = clusters(name)[cluster].get("typed_extension_protocol_options", {})
        return [key for value in options.values() for key in next(v for k, v in value.items() if k != "@type")]

    assert spoken("grpc", "app/8080") == ["http2_protocol_options"]
    assert spoken("http", "app/80") == ["http_protocol_options"]
    assert spoken("http", "shop/web/80") == ["http_protocol_options", "http2_protocol_options"]
    assert spoken("tcp", "app/5432") == []


def test_a_workload_without_ports_has_no_zone_to_share() -> None:
    config = SCENARIOS["no-ports"].bootstrap

    assert [cluster["name"] for cluster in config["static_resources"]["clusters"]] == ["xds", "telemetry"]
    assert config["cluster_manager"] == {}


def test_the_control_plane_must_prove_that_it_is_one() -> None:
    identity = control_plane_identity("proa.local").uri
    for cluster in SCENARIOS["grpc"].bootstrap["static_resources"]["clusters"]:
        if cluster["name"] != "local":
            assert identity in json.dumps(cluster["transport_socket"])


def test_the_files_of_the_secrets_are_what_envoy_reads() -> None:
    for name, text in {"id": leaf_secret("CHAIN", "KEY"), "roots": roots_secret("ROOTS")}.items():
        response = ParseDict(json.loads(text), discovery_pb2.DiscoveryResponse())
        [secret] = json.loads(text)["resources"]
        assert secret["name"] == name
        assert response.resources[0].type_url == secret["@type"]
