"""What breaks is started again, and breaks nothing else. Real Envoys."""

import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

pytestmark = pytest.mark.envoy

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Running = Callable[[int], bool]

HTTP_SERVER = ("python", "-m", "http.server", "--bind", "${host}", "${port}")


async def test_kill_9_of_the_service_is_unhealthy_at_once_and_brings_a_new_one(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    await start_agent(*HTTP_SERVER, health="http")
    await eventually(lambda: control_plane.report.healthy)
    before = control_plane.report

    os.kill(before.pid, signal.SIGKILL)

    await eventually(lambda: control_plane.report.healthy and control_plane.report.service_restarts == 1)
    since = control_plane.reports.index(before)
    first_after = next(one for one in control_plane.reports[since:] if one.pid != before.pid)
    assert (first_after.healthy, first_after.pid) == (False, 0)
    assert "the service was ended by SIGKILL" in first_after.reason
    after = control_plane.report
    assert after.pid != before.pid
    assert (after.envoy_pid, after.envoy_restarts) == (before.envoy_pid, 0)


async def test_kill_9_of_envoy_leaves_the_service_alone_and_brings_a_new_one(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    await start_agent(*HTTP_SERVER, health="http")
    await eventually(lambda: control_plane.report.healthy)
    before = control_plane.report

    os.kill(before.envoy_pid, signal.SIGKILL)

    await eventually(lambda: control_plane.report.healthy and control_plane.report.envoy_restarts == 1)
    since = control_plane.reports.index(before)
    first_after = next(one for one in control_plane.reports[since:] if one.envoy_pid != before.envoy_pid)
    assert (first_after.healthy, first_after.envoy_ready, first_after.envoy_pid) == (False, False, 0)
    assert "its Envoy was ended by SIGKILL" in first_after.reason
    after = control_plane.report
    assert after.envoy_pid != before.envoy_pid
    assert (after.pid, after.service_restarts) == (before.pid, 0)
    assert len(control_plane.hellos) == 1


async def test_kill_9_of_the_agent_leaves_nothing_behind(
    control_plane: Any, start_agent: Any, eventually: Eventually, running: Running
) -> None:
    agent = await start_agent("sh", "-c", "sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 0.1; done' & wait")
    await eventually(lambda: control_plane.report.healthy and agent.service_output)
    family = [control_plane.report.pid, control_plane.report.envoy_pid, int(agent.service_output)]
    assert all(map(running, family))

    agent.process.kill()

    await eventually(lambda: not any(map(running, family)))


async def test_the_end_of_the_lifeline_ends_everything(
    control_plane: Any, start_agent: Any, eventually: Eventually, running: Running
) -> None:
    """As it does where there is no parent-death signal."""
    agent = await start_agent("sleep", "600")
    await eventually(lambda: control_plane.report.healthy)
    family = [control_plane.report.pid, control_plane.report.envoy_pid]

    os.close(agent.lifeline)

    assert await agent.process.wait() == 130
    await eventually(lambda: not any(map(running, family)))
    assert "drain" not in control_plane.events


async def test_a_control_plane_that_goes_and_comes_finds_everything_as_it_was(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent(*HTTP_SERVER, health="http")
    # Whichever of the two comes last: then all is there.
    await eventually(lambda: control_plane.report.healthy and control_plane.report.loaded)
    before = control_plane.report

    await control_plane.stop()
    await eventually(lambda: "detached" in agent.logged)
    control_plane.reports.clear()
    await control_plane.start()

    await eventually(lambda: control_plane.reports)
    assert control_plane.report == before
    assert control_plane.hellos[0] == control_plane.hellos[1]


async def test_an_agent_waits_for_a_control_plane_that_is_not_there_yet(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    await control_plane.stop()
    agent = await start_agent("sleep", "600")
    await eventually(lambda: "agent_started" in agent.logged)

    await control_plane.start()

    await eventually(lambda: control_plane.report.healthy)


async def test_an_agent_that_waits_for_its_control_plane_can_be_stopped(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    await control_plane.stop()
    agent = await start_agent("sleep", "600")
    await eventually(lambda: "agent_started" in agent.logged)

    agent.process.terminate()

    assert await agent.process.wait() == 0


async def test_a_workload_that_is_not_there_is_refused(control_plane: Any, start_agent: Any) -> None:
    control_plane.knows_workload = False

    agent = await start_agent("sleep", "600")

    assert await agent.process.wait() == 1
    assert "error: shop/orders/orders-0: the control plane refuses: there is no workload orders." in agent.logged
    assert "Traceback" not in agent.logged


async def test_the_certificate_is_renewed_and_envoy_uses_the_new_one(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    control_plane.renew_after = timedelta(seconds=1)

    agent = await start_agent("sleep", "600")

    await eventually(lambda: agent.logged.count("certificate_loaded") >= 2)
    assert control_plane.report.envoy_restarts == 0
    assert "not_loaded" not in agent.logged


async def test_a_certificate_that_is_not_renewed_is_asked_for_again(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    control_plane.renew_after = timedelta(seconds=1)
    agent = await start_agent("sleep", "600")
    await eventually(lambda: control_plane.report.healthy)

    await control_plane.stop()
    await eventually(lambda: "certificate_not_renewed" in agent.logged)
    seen = agent.logged.count("certificate_loaded")
    await control_plane.start()

    await eventually(lambda: agent.logged.count("certificate_loaded") > seen)
