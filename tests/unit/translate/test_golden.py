"""Every scenario for a reader, and against the price list. Envoy's own word on it is in tests/envoy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mesh.snapshot.seal import part, seal
from tests.unit.translate.lint import findings
from tests.unit.translate.scenarios import SCENARIOS, Scenario, as_json

HERE = Path(__file__).parent
SHOWN = {
    "grpc": ("bootstrap", "clusters", "listeners", "routes"),
    "http": ("clusters", "listeners"),
    "tcp": ("clusters", "listeners", "routes"),
    "retry": ("clusters", "routes"),
}
"""Which parts of which scenario have a golden; the others differ in nothing that is worth reading."""

Golden = Callable[[str, Path], None]
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in SHOWN.items() for part in parts])
def test_the_configuration_is_the_one_that_was_reviewed(name: str, part: str, golden: Golden) -> None:
    """`listeners` pins what cannot change without cutting the streams of a running mesh."""
    scenario = SCENARIOS[name]
    shown = scenario.bootstrap if part == "bootstrap" else [as_json(m) for m in _part(scenario, part)]

    golden(yaml.safe_dump(shown, sort_keys=True, width=120), HERE / "golden" / f"{name}.{part}.yaml")


def _part(scenario: Scenario, part: str) -> tuple[object, ...]:
    return (*getattr(scenario.shared, part), *getattr(scenario.own, part))


@each_scenario
def test_nothing_in_it_costs_what_it_need_not(scenario: Scenario) -> None:
    config = [scenario.bootstrap, *(as_json(message) for message in scenario.messages())]

    assert list(findings(config)) == []


@each_scenario
def test_it_does_not_contradict_itself(scenario: Scenario) -> None:
    assert (
        seal(part(scenario.shared), part(scenario.own)).version
        == seal(part(scenario.shared), part(scenario.own)).version
    )


@each_scenario
def test_a_certificate_is_asked_of_every_caller_and_no_key_is_in_it(scenario: Scenario) -> None:
    for listener in map(as_json, scenario.own.listeners):
        for chain in listener["filter_chains"]:
            inbound = listener["traffic_direction"] == "INBOUND"
            tls = chain.get("transport_socket", {}).get("typed_config", {})
            assert tls.get("require_client_certificate", False) is inbound
            assert listener["address"]["socket_address"]["address"] == "127.0.0.1"
    assert "PRIVATE KEY" not in json.dumps([as_json(message) for message in scenario.messages()])
