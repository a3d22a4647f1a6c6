"""What to start and what to stop next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.rollout import Running, Steps, Wanted, next_steps
from mesh.model.names import InstanceId


def wanted(replicas: int = 1, generation: str = "new", name: str = "orders", fixed_port: bool = False) -> Wanted:
    return Wanted("shop", name, replicas, generation, fixed_port=fixed_port)


def running(text: str) -> list[Running]:
    """`0:new 1:old- 2:new~` are three instances of `orders`: ready, not ready, stopping."""
    return [one(*word.split(":")) for word in text.split()]


def one(number: str, state: str) -> Running:
    return Running(
        InstanceId("shop", "orders", f"orders-{number}"),
        generation=state.rstrip("-~"),
        healthy=not state.endswith(("-", "~")),
        ready=not state.endswith(("-", "~")),
        stopping=state.endswith("~"),
    )


def numbers(ids: tuple[InstanceId, ...]) -> str:
    return " ".join(id_.instance.removeprefix("orders-") for id_ in ids)


@pytest.mark.parametrize(
    ("replicas", "there", "start", "stop"),
    [
        pytest.param(2, "", "0 1", "", id="nothing runs: start all"),
        pytest.param(1, "0:new", "", "", id="as wanted: nothing to do"),
        pytest.param(1, "0:new-", "", "", id="not ready yet: wait"),
        pytest.param(3, "1:new", "0 2", "", id="the lowest free numbers"),
        pytest.param(1, "0:new~", "1", "", id="one that is stopping does not count and keeps its number"),
        pytest.param(1, "0:new 1:new 2:new", "", "1 2", id="too many: the highest numbers go"),
        pytest.param(1, "0:new- 1:new", "", "0", id="too many: one that is not ready goes first"),
        pytest.param(0, "0:new 1:new~", "", "0", id="none wanted: all go, once"),
        pytest.param(1, "0:old", "1", "", id="another generation: start the new one first"),
        pytest.param(1, "0:old 1:new-", "", "", id="replacing: wait until the new one is ready"),
        pytest.param(1, "0:old 1:new", "", "0", id="replacing: the new one is ready, the old one goes"),
        pytest.param(1, "0:old~ 1:new", "", "", id="replacing: the old one is on its way"),
        pytest.param(3, "0:old 1:old 2:old", "3", "", id="three to replace: one at a time"),
        pytest.param(3, "0:old 1:old 2:old 3:new", "", "0", id="three to replace: the lowest number first"),
        pytest.param(3, "0:old~ 1:old 2:old 3:new", "4", "", id="three to replace: the next while the last one drains"),
        pytest.param(1, "0:oldest 1:old-", "", "1", id="replaced twice: what never got ready goes first"),
        pytest.param(1, "0:oldest", "1", "", id="replaced twice: then the newest starts"),
        pytest.param(1, "0:old 1:old", "", "0", id="fewer, and another generation: first fewer"),
        pytest.param(3, "0:old", "1 2", "", id="more, and another generation: the missing ones are new"),
        pytest.param(0, "0:old", "", "0", id="none wanted, another generation"),
    ],
)
def test_steps(replicas: int, there: str, start: str, stop: str) -> None:
    steps = next_steps([wanted(replicas)], running(there))

    assert (numbers(steps.start), numbers(steps.stop)) == (start, stop)


@pytest.mark.parametrize(
    ("replicas", "there", "start", "stop"),
    [
        pytest.param(1, "", "0", "", id="nothing runs"),
        pytest.param(1, "0:new", "", "", id="as wanted"),
        pytest.param(1, "0:old", "", "0", id="the old one goes first"),
        pytest.param(1, "0:old~", "", "", id="nothing starts while the old one has the port"),
        pytest.param(0, "0:new", "", "0", id="none wanted"),
    ],
)
def test_steps_with_a_fixed_port(replicas: int, there: str, start: str, stop: str) -> None:
    steps = next_steps([wanted(replicas, fixed_port=True)], running(there))

    assert (numbers(steps.start), numbers(steps.stop)) == (start, stop)


def test_a_proxy_that_is_catching_up_is_no_reason_to_choose_its_instance() -> None:
    catching_up = Running(InstanceId("shop", "orders", "orders-0"), "new", healthy=True, ready=False)

    assert numbers(next_steps([wanted(1)], [catching_up, *running("1:new")]).stop) == "1"


def test_a_workload_that_is_not_wanted_any_more_stops() -> None:
    steps = next_steps([wanted(name="catalog")], running("0:new 1:new~"))

    assert steps == Steps(
        start=(InstanceId("shop", "catalog", "catalog-0"),), stop=(InstanceId("shop", "orders", "orders-0"),)
    )


def test_a_workload_of_the_same_name_elsewhere_is_another_one() -> None:
    elsewhere = Running(InstanceId("attic", "orders", "orders-0"), "new", healthy=True, ready=True)

    assert next_steps([wanted()], [*running("0:new"), elsewhere]).stop == (elsewhere.id,)


instances = st.dictionaries(
    st.integers(0, 4),
    st.tuples(st.sampled_from(["new", "old"]), st.booleans(), st.booleans()),
    max_size=5,
).map(
    lambda drawn: [
        Running(InstanceId("shop", "orders", f"orders-{n}"), generation, ready, ready and not stopping, stopping)
        for n, (generation, ready, stopping) in drawn.items()
    ]
)


@given(replicas=st.integers(0, 4), there=instances, fixed_port=st.booleans())
def test_steps_lead_to_what_is_wanted(replicas: int, there: list[Running], fixed_port: bool) -> None:
    """Whatever runs: when each start becomes ready and each stop ends, exactly the wanted instances are left.

    On the way never fewer are ready than before or than wanted, but with a fixed port.
    """
    want = wanted(replicas, fixed_port=fixed_port)
    least = min(replicas, sum(instance.ready for instance in there))
    for _ in range(30):
        there = [instance for instance in there if not instance.stopping]
        there = [Running(instance.id, instance.generation, healthy=True, ready=True) for instance in there]
        steps = next_steps([want], there)
        assert len(there) + len(steps.start) <= max(replicas + 1, len(there))
        if steps == Steps():
            break
        there = [Running(i.id, i.generation, i.healthy, i.ready, stopping=i.id in steps.stop) for i in there]
        there += [Running(id_, "new", healthy=False, ready=False) for id_ in steps.start]
        assert fixed_port or sum(i.ready and not i.stopping for i in there) >= least

    assert [instance.generation for instance in there] == ["new"] * replicas
