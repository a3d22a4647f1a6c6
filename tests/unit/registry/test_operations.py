"""What should run, and what people may ask of it."""

import pytest

from mesh.errors import NotFoundError, UsageError
from mesh.registry import operations
from mesh.registry.operations import Desired
from mesh.registry.state import State
from tests.unit.registry.builders import applied, filed, mesh, policy, workload


def wanted(state: State, name: str = "orders") -> Desired:
    return operations.desired_one(state, "shop", name)


def state_with(*texts: str) -> State:
    return filed(State(), *texts).state


def test_only_workloads_run_sorted_by_name():
    state = state_with(workload("orders"), mesh("shop.example"), policy("retry", "orders"), workload("catalog"))

    assert [one.workload.name for one in operations.desired(state)] == ["catalog", "orders"]


def test_a_workload_that_is_not_there_is_named_with_the_nearest():
    state = state_with(workload("orders"))

    with pytest.raises(NotFoundError, match="Did you mean shop/orders"):
        wanted(state, "oders")


def test_scaling_changes_the_number_and_not_the_generation():
    state = state_with(workload("orders", "replicas: 2"))

    scaled = operations.scale(state, "shop", "orders", 0)

    assert (wanted(state).replicas, wanted(scaled).replicas) == (2, 0)
    assert wanted(state).generation == wanted(scaled).generation
    assert scaled.revision == state.revision


@pytest.mark.parametrize(
    ("spec", "replicas", "problem"),
    [
        pytest.param("", -1, "-1 instances cannot run", id="fewer than none"),
        pytest.param("ports: [{port: 1, targetPort: 9000}]", 2, "one fixed port", id="two on one port"),
    ],
)
def test_a_number_that_cannot_run_is_refused(spec, replicas, problem):
    text = workload("orders", spec) if not spec else workload("orders", spec).replace("port: 50051, ", "")

    with pytest.raises(UsageError, match=problem):
        operations.scale(state_with(text), "shop", "orders", replicas)


def test_a_restart_makes_a_new_generation_each_time():
    state = state_with(workload("orders"))
    once = operations.restart(state, "shop", "orders")
    twice = operations.restart(once, "shop", "orders")

    assert len({wanted(one).generation for one in (state, once, twice)}) == 3


def test_a_restart_keeps_the_scaling():
    state = operations.scale(state_with(workload("orders")), "shop", "orders", 3)

    assert wanted(operations.restart(state, "shop", "orders")).replicas == 3


@pytest.mark.parametrize(
    ("spec", "replaced"),
    [
        pytest.param("replicas: 2", False, id="another number of instances"),
        pytest.param("env: {A: b}", True, id="another environment"),
        pytest.param("version: v2", True, id="another version"),
    ],
)
def test_a_changed_document_is_a_new_generation_unless_only_the_number_changed(spec, replaced):
    state = state_with(workload("orders"))

    changed = applied(state, workload("orders", spec)).state

    assert (wanted(changed).generation != wanted(state).generation) is replaced


def test_the_place_of_a_document_does_not_make_a_generation():
    assert wanted(state_with(workload("orders"))).generation == wanted(state_with("\n" + workload("orders"))).generation


@pytest.mark.parametrize("asked", [operations.restart, lambda *args: operations.scale(*args, 2)])
def test_nothing_can_be_asked_of_what_is_not_there(asked):
    with pytest.raises(NotFoundError, match="Workloads: none"):
        asked(State(), "shop", "orders")
