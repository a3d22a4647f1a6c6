"""Healthy or not, how long to wait, and the words for both."""

from datetime import timedelta
from pathlib import Path

import pytest

from mesh.agent.backoff import Backoff, jittered, reconnects, restarts
from mesh.agent.ending import describe
from mesh.agent.exposure import beyond_loopback
from mesh.agent.health import Judgement
from mesh.agent.launch import Launch
from mesh.agent.plan import plan_from
from mesh.agent.report import report_of
from mesh.agent.service import Service, ServiceState, missed
from mesh.agent.sidecar import SidecarState
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import StartError

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        pytest.param("+", "+", id="healthy after the first good one"),
        pytest.param("---", "---", id="never healthy"),
        pytest.param("+--+", "++++", id="two bad ones are not enough"),
        pytest.param("+---", "+++-", id="three in a row are"),
        pytest.param("+--+--", "++++++", id="not in a row"),
        pytest.param("+---+", "+++-+", id="healthy again"),
    ],
)
def test_health_is_judged_by_checks_in_a_row(checks: str, verdicts: str) -> None:
    judgement = Judgement(healthy_after=1, unhealthy_after=3)

    assert "".join("+" if judgement.take(check == "+") else "-" for check in checks) == verdicts


def test_several_good_checks_may_be_asked_for() -> None:
    judgement = Judgement(healthy_after=2, unhealthy_after=1)

    assert [judgement.take(good) for good in (True, False, True, True, False)] == [False, False, False, True, False]


def test_restarts_back_off_from_half_a_second_to_ten() -> None:
    backoff = restarts()

    waits = [backoff.after(timedelta()).total_seconds() for _ in range(7)]

    assert waits == [0.5, 1, 2, 4, 8, 10, 10]


def test_what_all_others_wait_for_is_started_again_at_once_and_then_with_the_same_pauses() -> None:
    backoff = restarts(at_once=True)

    waits = [backoff.after(timedelta()).total_seconds() for _ in range(7)]

    assert waits == [0, 0.5, 1, 2, 4, 8, 10]
    assert backoff.after(timedelta(seconds=30)).total_seconds() == 0


def test_what_lived_for_half_a_minute_is_started_again_soon() -> None:
    backoff = restarts()
    for _ in range(9):
        backoff.after(timedelta())

    assert backoff.after(timedelta(seconds=29)).total_seconds() == 10
    assert backoff.after(timedelta(seconds=30)).total_seconds() == 0.5


def test_a_back_off_of_days_does_not_overflow() -> None:
    backoff = Backoff(SECOND, longest=SECOND, tries=10_000)

    assert backoff.after(timedelta()) == SECOND


def test_an_agent_is_back_within_about_a_second() -> None:
    backoff = reconnects()

    waits = [backoff.after(timedelta()).total_seconds() for _ in range(6)]

    assert waits == [0.1, 0.2, 0.4, 0.8, 1, 1]


def test_jitter_is_from_a_half_to_the_whole() -> None:
    assert jittered(SECOND, chance=lambda: 0.0) == SECOND / 2
    assert jittered(SECOND, chance=lambda: 1.0) == SECOND


@pytest.mark.parametrize(
    ("status", "last_line", "words"),
    [
        pytest.param(3, "no such table", "exited with code 3 after 1.0 s: no such table", id="an exit code"),
        pytest.param(-9, "", "was ended by SIGKILL after 1.0 s", id="a signal"),
        pytest.param(-40, "", "was ended by signal 40 after 1.0 s", id="a real-time signal"),
    ],
)
def test_an_end_is_told_in_words(status: int, last_line: str, words: str) -> None:
    assert describe(status, SECOND, last_line) == words


def test_only_addresses_beyond_loopback_are_exposed() -> None:
    inside = ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"]
    outside = ["0.0.0.0:80", "[::]:80", "192.0.2.7:80", "[fe80::1%eth0]:80", "[::ffff:192.0.2.7]:80"]

    assert beyond_loopback([*inside, *outside]) == tuple(outside)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param([], "", id="it does not listen yet"),
        pytest.param(["127.0.0.1:20001"], "", id="where it should"),
        pytest.param(["0.0.0.0:20001", "127.0.0.1:9229"], "", id="where it should, and with a debugger"),
        pytest.param(["[::]:20001"], "", id="on every address of both families"),
        pytest.param(
            ["127.0.0.1:8000"],
            "It listens on 127.0.0.1:8000: let it listen on 127.0.0.1:20001 ($HOST:$PORT), or write `targetPort: 8000`",
            id="on another port",
        ),
        pytest.param(
            ["[::1]:20001"],
            "It listens on [::1]:20001: let it listen on 127.0.0.1:20001 ($HOST:$PORT)",
            id="on the right port of the wrong family",
        ),
    ],
)
def test_a_service_that_listens_elsewhere_is_told_where(found: list[str], words: str) -> None:
    assert missed([20001], found) == words


def test_a_service_that_was_healthy_is_unhealthy_as_soon_as_it_is_judged_so() -> None:
    plan = plan_from(
        agents_pb2.LaunchPlan(command=["serve"], health=agents_pb2.HealthPlan(type="none"), where="mesh.yaml:3")
    )
    changes: list[bool] = []
    service = Service(plan, [20001], launch_nothing, Path("out.log"), lambda: changes.append(service.state.healthy))

    service._judged(False, "still starting", is_news=False)
    service._judged(True, "", is_news=False)
    service._judged(False, "it answers NOT_SERVING", is_news=False)

    assert changes == [True, False]
    assert service.state.reason == "mesh.yaml:3: it answers NOT_SERVING. Its output is in out.log"


def launch_nothing() -> Launch:
    raise StartError("mesh.yaml:3", "nothing is started here", "Judge only")


SERVICE = ServiceState(pid=1, healthy=True, reason="", restarts=2, exposed=("0.0.0.0:1",))
SIDECAR = SidecarState(pid=3, ready=True, version="1.40.0", restarts=4, reason="")


def test_a_report_has_all_that_runs() -> None:
    assert report_of(SERVICE, SIDECAR, agent_pid=5, schema_told=True) == agents_pb2.InstanceReport(
        healthy=True,
        pid=1,
        agent_pid=5,
        envoy_pid=3,
        envoy_version="1.40.0",
        envoy_ready=True,
        service_restarts=2,
        envoy_restarts=4,
        exposed=["0.0.0.0:1"],
        schema_told=True,
    )


def test_an_instance_that_callers_cannot_reach_is_not_healthy() -> None:
    report = report_of(SERVICE, SidecarState(reason="its Envoy has ended"), agent_pid=5, schema_told=True)

    assert (report.healthy, report.reason) == (False, "its Envoy has ended")
