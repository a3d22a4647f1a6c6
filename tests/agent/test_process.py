"""Children that do not outlive their parent, with real processes."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.agent import process as process_module
from mesh.agent.process import Process, group_members, start
from mesh.agent.sidecar import FILES
from mesh.errors import StartError
from mesh.translate.limits import MAX_CONNECTIONS

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Running = Callable[[int], bool]

STUBBORN_CHILD = """sh -c 'trap "" TERM; echo $$; while :; do sleep 0.1; done'"""
"""A program that says its process id, ignores SIGTERM and never ends."""

PARENT = f"""
import asyncio, os, sys
from pathlib import Path
from mesh.agent.process import start

async def main():
    here = Path(sys.argv[1])
    command = ["sh", "-c", {STUBBORN_CHILD + " & wait"!r}]
    process = await start(command, cwd=here, env=os.environ, log=here / "log", guard=True)
    await process.wait()

asyncio.run(main())
"""


async def run(here: Path, *argv: str, guard: bool = False) -> Process:
    return await start(argv, cwd=here, env=os.environ, log=here / "log", guard=guard)


def words(here: Path) -> list[str]:
    log = here / "log"
    return log.read_text().split() if log.exists() else []


async def test_the_process_id_is_that_of_the_program(tmp_path: Path) -> None:
    process = await run(tmp_path, "sh", "-c", "echo $$")

    assert await process.wait() == 0
    assert words(tmp_path) == [str(process.pid)]


async def test_a_process_may_open_as_many_files_as_it_needs(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        for files in (None, 2000):
            command = ("sh", "-c", "ulimit -n")
            await (
                await start(command, cwd=tmp_path, env=os.environ, log=tmp_path / "log", guard=False, files=files)
            ).wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert words(tmp_path) == ["1024", "2000"]
    assert FILES >= 4 * MAX_CONNECTIONS


async def test_a_process_has_an_exit_code_and_a_last_line(tmp_path: Path) -> None:
    process = await run(tmp_path, "sh", "-c", "echo hello; echo sorry >&2; exit 3")

    assert await process.wait() == 3
    assert process.last_line == "sorry"


async def test_a_command_that_does_not_exist_ends_with_127_and_says_so(tmp_path: Path) -> None:
    process = await run(tmp_path, "no-such-command", "--option")

    assert await process.wait() == 127
    assert process.last_line.startswith("proa: no-such-command: there is no such command")


async def test_a_file_that_is_no_program_ends_with_126_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("hello")
    process = await run(tmp_path, "./readme")

    assert await process.wait() == 126
    assert process.last_line == "proa: ./readme: Permission denied"


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="missing: there is no such folder"):
        await start(["true"], cwd=tmp_path / "missing", env=os.environ, log=tmp_path / "log", guard=True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_program_inherits_no_ignored_signal_and_only_the_descriptors_it_was_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    command = ["sh", "-c", "grep SigIgn /proc/self/status; ls /proc/$$/fd"]
    try:
        process = await start(
            command, cwd=tmp_path, env=os.environ, log=tmp_path / "log", guard=True, pass_fds=[reader]
        )
        await process.wait()
    finally:
        os.close(reader)
        os.close(writer)

    _, ignored, *descriptors = words(tmp_path)
    python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(ignored, 16) == ignored_here() & ~python_ignores
    assert descriptors == sorted(["0", "1", "2", str(reader)])


def ignored_here() -> int:
    """The signals that whoever runs the tests ignores, as a mask."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16)


async def test_a_program_that_ignores_sigterm_is_killed_after_grace(tmp_path: Path, eventually: Eventually) -> None:
    process = await run(tmp_path, "sh", "-c", f"exec {STUBBORN_CHILD}")
    await eventually(lambda: words(tmp_path))

    assert await process.stop(grace=timedelta(milliseconds=100)) == -signal.SIGKILL


async def test_stop_gives_the_whole_group_its_grace(tmp_path: Path, eventually: Eventually) -> None:
    """What `npm start` does: the parent ends at the first signal, the server behind it needs a moment."""
    child = """sh -c 'trap "sleep 0.3; echo finished; exit" TERM; echo ready; while :; do sleep 0.05; done'"""
    process = await run(tmp_path, "sh", "-c", f"{child} & wait", guard=True)
    await eventually(lambda: "ready" in words(tmp_path))

    await process.stop(grace=timedelta(seconds=10))

    assert "finished" in words(tmp_path)


async def test_stop_kills_what_is_left_of_the_group_after_grace(tmp_path: Path, eventually: Eventually) -> None:
    process = await run(tmp_path, "sh", "-c", f"{STUBBORN_CHILD} & wait", guard=True)
    await eventually(lambda: words(tmp_path))

    await process.stop(grace=timedelta(milliseconds=100))

    await eventually(lambda: not group_members(process.pid))


async def test_what_a_program_leaves_behind_is_killed_when_it_ends(
    tmp_path: Path, eventually: Eventually, running: Running
) -> None:
    process = await run(tmp_path, "sh", "-c", f"{STUBBORN_CHILD} & while ! [ -s log ]; do sleep 0.02; done; exit 4")

    assert await process.wait() == 4

    await eventually(lambda: not running(int(words(tmp_path)[0])))


async def test_a_signal_to_a_process_that_has_ended_is_no_error(tmp_path: Path) -> None:
    process = await run(tmp_path, "true")
    await process.wait()

    process.signal(signal.SIGTERM)
    process.kill()
    assert await process.stop(grace=timedelta(seconds=1)) == 0


async def test_kill_9_of_the_parent_ends_the_program_and_its_children(tmp_path: Path, eventually: Eventually) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(tmp_path))
    await eventually(lambda: words(tmp_path))
    grandchild = int(words(tmp_path)[0])
    group = os.getpgid(grandchild)
    assert {group, grandchild} <= set(group_members(group))

    parent.kill()
    await parent.wait()

    await eventually(lambda: not group_members(group))


async def test_without_a_parent_death_signal_every_program_has_a_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "HAS_DEATH_SIGNAL", False)
    process = await run(tmp_path, "sleep", "600", guard=False)
    guard, process._guard = process._guard, None
    assert guard is not None

    os.close(guard)

    assert await process.wait() == -signal.SIGKILL


async def test_the_guard_alone_is_enough(tmp_path: Path, eventually: Eventually, running: Running) -> None:
    """As on macOS, which has no parent-death signal: the group dies by the pipe."""
    process = await run(tmp_path, "sh", "-c", f"{STUBBORN_CHILD} & wait", guard=True)
    await eventually(lambda: words(tmp_path))
    guard, process._guard = process._guard, None
    assert guard is not None

    os.close(guard)

    assert await process.wait() == -signal.SIGKILL
    await eventually(lambda: not running(int(words(tmp_path)[0])))
