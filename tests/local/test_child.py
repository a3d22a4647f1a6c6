"""Processes that are kept running."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh.agent.backoff import Backoff
from mesh.local.child import Child, Lifeline
from tests.mesh.running import patience

ENDS = "print('error: out of paper'); raise SystemExit(3)"
STAYS = (
    "import signal, time\nprint('here', flush=True)\nsignal.signal(signal.SIGUSR1, lambda *_: exit(0))\ntime.sleep(60)"
)
"""A module that ends on SIGTERM and on SIGUSR1."""


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], Child]]:
    """`run(code)` keeps a module with this code running, until the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lifeline = Lifeline()
    async with asyncio.TaskGroup() as tasks:
        children: list[Child] = []

        def running(code: str, wait: timedelta = timedelta()) -> Child:
            (tmp_path / "a_child.py").write_text(code)
            backoff, log = Backoff(wait, longest=wait), tmp_path / "log"
            child = Child("a_child", [], lifeline=lifeline, log=log, changed=lambda: None, backoff=backoff)
            children.append(child)
            tasks.create_task(child.run())
            return child

        yield running
        for child in children:
            child.kill()
    lifeline.close()


async def said(child: Child, text: str, times: int = 1) -> int:
    """The process id of the child that has just said `text`, which was said so often by now."""
    async with asyncio.timeout(20 * patience()):
        while not child.log.is_file() or child.log.read_text().count(text) < times or child.pid is None:  # noqa: ASYNC110 # it is a file
            await asyncio.sleep(0.02)
    return child.pid


async def test_a_child_that_ends_is_started_again(run: Callable[..., Child]) -> None:
    child = run(STAYS)
    first = await said(child, "here")
    os.kill(first, signal.SIGKILL)

    assert await said(child, "here", times=2) != first
    assert child.ends == 1
    assert child.how_it_ended.startswith("was ended by SIGKILL after ")


async def test_a_child_that_cannot_start_says_why(run: Callable[..., Child]) -> None:
    child = run(ENDS)
    await asyncio.wait_for(child.failed(2), 20)

    assert re.fullmatch(r"exited with code 3 after \d+\.\d s: out of paper", child.how_it_ended)


async def test_what_keeps_a_process_from_being_made_may_pass(run: Callable[..., Child], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    child = run(STAYS, wait=timedelta(milliseconds=20))
    await asyncio.wait_for(child.failed(2), 20)
    assert re.fullmatch(r"could not be started \(.*Is a directory.*\)", child.how_it_ended)

    (tmp_path / "log").rmdir()
    await said(child, "here")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
async def test_a_child_that_was_stopped_stays_so(run: Callable[..., Child], number: signal.Signals) -> None:
    child = run(STAYS)
    await said(child, "here")
    child.stop(number)
    await asyncio.wait_for(child.ended(), 20)

    assert (child.pid, child.ends, child.stopping) == (None, 0, True)


async def test_a_stop_during_the_start_is_not_lost(run: Callable[..., Child]) -> None:
    child = run(STAYS)
    child.stop()

    await asyncio.wait_for(child.ended(), 20)


async def test_a_stop_during_a_pause_ends_it(run: Callable[..., Any]) -> None:
    child = run(ENDS, wait=timedelta(hours=1))
    await asyncio.wait_for(child.failed(1), 20)
    child.stop()

    await asyncio.wait_for(child.ended(), 5)
