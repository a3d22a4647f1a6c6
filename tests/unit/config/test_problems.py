"""Values that are not of the kind that their field holds, told in words that no programmer is needed for."""

import pytest

from mesh.config import parse
from tests.builders import a_document, a_policy, a_workload


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            a_workload("a", "port: 70000"),
            "mesh.yaml:4: spec.port: 70000 is too large. Write 65535 or less",
            id="port out of range",
        ),
        pytest.param(
            a_workload("a", "replicas: -1"),
            "mesh.yaml:4: spec.replicas: -1 is too small. Write 0 or more",
            id="less than nothing",
        ),
        pytest.param(
            a_document("Workload", "a", "{command: node server.js}"),
            "mesh.yaml:4: spec.command: 'node server.js' is no list. Write it as a list: [node, server.js]",
            id="a command as a shell has it",
        ),
        pytest.param(
            a_workload("a", "ports: {port: 80}"),
            "mesh.yaml:4: spec.ports: {'port': 80} is no list. Write it as a list: […]",
            id="a mapping for a list",
        ),
        pytest.param(
            a_workload("a", "upstreams: [stock]"),
            "mesh.yaml:4: spec.upstreams.0: 'stock' is no mapping. Write it as a mapping: {name: value}",
            id="a word for a mapping",
        ),
        pytest.param(
            a_policy("a", "{targetRefs: [{kind: Service, name: a}], retry: {disabled: perhaps}}"),
            "mesh.yaml:4: spec.retry.disabled: input should be a valid boolean, unable to interpret input, "
            "not 'perhaps'. Change it",
            id="neither yes nor no",
        ),
        pytest.param(
            a_workload("a", "replicas: 'a word that goes on and on and on and on and on'"),
            "mesh.yaml:4: spec.replicas: 'a word that goes on and on and on an... is no whole number. Write digits",
            id="long value",
        ),
    ],
)
def test_a_value_of_another_kind_gets_what_to_write(text: str, message: str) -> None:
    [problem] = parse(text, "mesh.yaml", "/shop").problems

    assert str(problem) == message
