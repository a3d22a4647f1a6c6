"""What names, paths, values and lengths may be: the whole text is judged, and quickly."""

import json
from time import process_time

import pytest

from mesh.config import parse
from tests.builders import a_document, a_policy, a_workload

PARENTS = 'parentRefs: [{group: "", kind: Service, name: web'


def http(rule: str, more: str = "") -> str:
    return a_document("HTTPRoute", "r", f"{{{PARENTS}}}], rules: [{{{rule}}}]{more}}}")


def grpc(match: str) -> str:
    return a_document("GRPCRoute", "r", f"{{{PARENTS}}}], rules: [{{matches: [{{{match}}}]}}]}}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(a_workload(r'"a\n"'), id="name"),
        pytest.param(a_workload("a", r'port: 80, env: {"A\n": b}'), id="variable"),
        pytest.param(a_policy("p", r'{targetRefs: [{kind: Service, name: "a\n"}]}'), id="target"),
        pytest.param(http(r'timeouts: {request: "1s\n"}'), id="length"),
        pytest.param(grpc(r'method: {service: "a.B\n"}'), id="service"),
        pytest.param(grpc(r'method: {service: a.B, method: "C\n"}'), id="method"),
        pytest.param(grpc(r'headers: [{name: "a\n", value: b}]'), id="header"),
        pytest.param(grpc(r'headers: [{name: a, value: "b\n"}]'), id="value"),
        pytest.param(http(r'matches: [{path: {value: "/a\n"}}]'), id="path"),
        pytest.param(http("", r', hostnames: ["a.b\n"]'), id="host name"),
        pytest.param(a_document("HTTPRoute", "r", rf'{{{PARENTS}, sectionName: "a\n"}}]}}'), id="section"),
    ],
)  # fmt: skip
def test_a_newline_at_the_end_is_refused(text: str) -> None:
    """Envoy would refuse it, or it would be a name that nobody can dial."""
    [problem] = parse(text, "mesh.yaml", "/").problems
    assert "\\n" in str(problem) or "at most one space" in str(problem)


@pytest.mark.parametrize("value", ["a" * 4000 + "é", "a " * 2000 + " ", "a" * 100_000])
def test_a_long_value_is_judged_at_once(value: str) -> None:
    begun = process_time()

    [problem] = parse(grpc(f"headers: [{{name: a, value: {json.dumps(value)}}}]"), "mesh.yaml", "/").problems

    assert "ASCII characters" in str(problem)
    assert process_time() - begun < 1


def test_two_expressions_are_judged_together_as_envoy_gets_them() -> None:
    [problem] = parse(
        grpc("method: {type: RegularExpression, service: 'a{60}', method: 'b{60}'}"), "a.yaml", "/"
    ).problems

    assert "is too large" in str(problem)
