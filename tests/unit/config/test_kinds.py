"""How people spell kinds."""

import pytest

from mesh.config import KINDS, kind_named
from mesh.errors import UsageError


@pytest.mark.parametrize("word", ["Workload", "workload", "workloads", "WORKLOADS"])
def test_any_case_singular_or_plural(word: str) -> None:
    assert kind_named(word) == "Workload"


def test_plurals_are_english() -> None:
    assert kind_named("backendtrafficpolicies") == "BackendTrafficPolicy"
    assert kind_named("meshes") == "Mesh"
    assert {kind_named(kind) for kind in KINDS} == set(KINDS)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gateways", "kind Gateway is not built yet"),
        ("worklod", "Did you mean Workload?"),
        ("zebra", "This version knows Mesh, Workload, GRPCRoute, "),
    ],
)
def test_another_word_gets_an_answer_that_helps(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        kind_named(word)
