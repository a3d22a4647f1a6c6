"""Texts that are made to break a reader."""

import pytest

from mesh.config import parse
from tests.builders import a_workload


def only_problem(text: str) -> str:
    [problem] = parse(text, "mesh.yaml", "/shop").problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a: " + "[" * 5_000, "nested too deeply", id="a deep list"),
        pytest.param("a: &a [*a]", "nested too deeply", id="an alias of itself"),
        pytest.param("kind: [Workload]", "the document has no kind", id="a list in place of the kind"),
        pytest.param("kind: {a: b}", "the document has no kind", id="a mapping in place of the kind"),
        pytest.param('a: "x\\0y"', "a character that no program can be given", id="an end of text"),
        pytest.param('"\\ud800": x', "a character that no program can be given", id="half a character in a key"),
    ],
)
def test_what_no_document_can_be_is_a_problem_of_its_own(text: str, problem: str) -> None:
    assert problem in only_problem(text)


def test_a_number_of_any_length_is_a_problem_of_its_field() -> None:
    problem = only_problem(a_workload("orders", f"port: {'9' * 5_000}"))

    assert "spec.port" in problem
