"""When an instance is ready, and what is said about one that is not."""

from pathlib import Path

import pytest

from mesh.agent.logfile import last_lines
from mesh.api.proa.v1.agents_pb2 import InstanceReport
from mesh.api.proa.v1.status_pb2 import Instance
from mesh.local.ready import is_settled, why_not_ready
from mesh.local.rollout import Running, Wanted
from mesh.model.names import InstanceId


def an_instance(*, attached: bool = True, draining: bool = False, synced: bool = True, **report: object) -> Instance:
    whole = {"healthy": True, "envoy_ready": True, "schema_told": True, "agent_pid": 7} | report
    return Instance(attached=attached, draining=draining, synced=synced, report=InstanceReport(**whole))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instance", "agent_pid", "why"),
    [
        pytest.param(an_instance(), 7, "", id="all is well"),
        pytest.param(an_instance(), None, "its agent does not run", id="no agent"),
        pytest.param(None, 7, "its agent has not attached to the control plane", id="never heard of"),
        pytest.param(an_instance(attached=False), 7, "its agent has not attached to the control plane", id="detached"),
        pytest.param(
            an_instance(), 8, "its agent has not attached to the control plane", id="an agent before this one"
        ),
        pytest.param(an_instance(draining=True), 7, "it is leaving", id="draining"),
        pytest.param(an_instance(envoy_ready=False), 7, "its Envoy does not listen", id="no Envoy"),
        pytest.param(an_instance(healthy=False, reason="no route"), 7, "no route", id="the agent's own words"),
        pytest.param(an_instance(healthy=False), 7, "it was not found healthy", id="unhealthy without a reason"),
        pytest.param(an_instance(schema_told=False), 7, "its methods have not been read", id="schema not told"),
        pytest.param(an_instance(synced=False), 7, "its proxy has not acknowledged its configuration", id="not synced"),
    ],
)
def test_why_an_instance_is_not_ready(instance: Instance | None, agent_pid: int | None, why: str) -> None:
    assert why_not_ready(instance, agent_pid) == why


ORDERS = InstanceId("shop", "orders", "orders-0")


@pytest.mark.parametrize(
    ("running", "settled"),
    [
        pytest.param([Running(ORDERS, "g", healthy=True, ready=True)], True, id="what is wanted is ready"),
        pytest.param([Running(ORDERS, "g", healthy=True, ready=False)], False, id="not ready"),
        pytest.param([Running(ORDERS, "old", healthy=True, ready=True)], False, id="to be replaced"),
        pytest.param([], False, id="to be started"),
        pytest.param(
            [
                Running(ORDERS, "g", True, True),
                Running(InstanceId("shop", "old", "old-0"), "g", False, False, stopping=True),
            ],
            False,
            id="something else is still ending",
        ),
    ],
)
def test_a_mesh_is_settled_when_exactly_what_is_wanted_is_ready(running: list[Running], settled: bool) -> None:
    assert is_settled([Wanted("shop", "orders", 1, "g")], running) is settled


def test_the_last_lines_are_those_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(b"before\none\ntwo\nthree \xff\n")

    assert last_lines(log, since=7, count=2) == ("two", "three \ufffd")
    assert last_lines(log, since=7) == ("one", "two", "three \ufffd")
    assert last_lines(tmp_path / "absent") == ()
