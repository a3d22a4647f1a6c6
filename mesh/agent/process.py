"""Child processes that end with their parent, started through the launcher."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Final

from mesh.agent.logfile import last_lines, open_log
from mesh.errors import StartError

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
HAS_DEATH_SIGNAL: Final = sys.platform == "linux"

POLL: Final = 0.05
"""Seconds between two looks at a process group that was asked to end."""


class Process:
    """A program in a session of its own. Made by `start`; ended by `stop` or `kill`, or by itself."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path, logged: int, guard: int | None) -> None:
        self._child = child
        self._log = log
        self._logged = logged
        self._guard = guard
        self._stopping = False
        self._buried = False

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then the exit code, or the negative number of the signal that ended it."""
        return self._child.returncode

    @property
    def last_line(self) -> str:
        """What this process printed last; "" for nothing."""
        return "".join(last_lines(self._log, since=self._logged, count=1)).strip()

    async def wait(self) -> int:
        """Its `status`, once it has ended. What it left of its process group is killed, unless `stop` waits for it."""
        status = await self._child.wait()
        if not self._stopping:
            self.kill()
        return status

    def signal(self, number: Signals) -> None:
        """To the program alone. Nothing happens when that has ended."""
        with suppress(ProcessLookupError):
            self._child.send_signal(number)

    async def stop(self, grace: timedelta) -> int:
        """SIGTERM to the process group, SIGKILL to what is left of it after `grace`; its `status`."""
        if self._buried:
            return await self._child.wait()
        self._stopping = True
        self._signal_group(SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                await self._group_ended()
        self.kill()
        return await self._child.wait()

    def kill(self) -> None:
        """SIGKILL to the process group, at once. Once it has ended, nothing happens."""
        self._signal_group(SIGKILL)
        self._buried = self.status is not None
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    async def _group_ended(self) -> None:
        await self._child.wait()
        while group_members(self.pid):  # noqa: ASYNC110 (nothing tells when somebody else's child has ended)
            await asyncio.sleep(POLL)

    def _signal_group(self, number: Signals) -> None:
        if self._buried:  # the number may be somebody else's by now
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            os.killpg(self.pid, number)


async def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    guard: bool,
    pass_fds: Sequence[int] = (),
    files: int | None = None,
) -> Process:
    """Runs `argv` in a session of its own, with its output appended to `log`. It is killed when this process ends.

    `guard` kills its whole process group with it, for programs that start others. `pass_fds` stay open in it, under
    the same numbers. It may open `files`, where the machine allows that. To be called in the main thread only: on Linux
    it is the death of the calling *thread* that kills.
    A command that does not exist exits with 127 and says so in `log`. Raises StartError when `cwd` is not a folder.
    """
    if not cwd.is_dir():
        raise StartError(str(cwd), "there is no such folder to start a program in", "Make it, or name another one")
    reader, writer = os.pipe() if guard or not HAS_DEATH_SIGNAL else (None, None)
    output = open_log(log)
    logged = os.fstat(output).st_size
    try:
        child = await asyncio.create_subprocess_exec(
            *_launched(argv, reader, files),
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[*pass_fds, *_given(reader)],
            start_new_session=True,
        )
    except BaseException:
        for fd in _given(writer):
            os.close(fd)
        raise
    finally:
        for fd in (output, *_given(reader)):
            os.close(fd)
    return Process(child, log, logged, writer)


def _launched(argv: Sequence[str], guard: int | None, files: int | None) -> list[str]:
    given = {"--parent": os.getpid(), "--guard": guard, "--files": files}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return [sys.executable, "-I", "-S", str(LAUNCHER), *options, "--", *argv]


def _given(fd: int | None) -> tuple[int, ...]:
    return () if fd is None else (fd,)


def group_members(group: int) -> list[int]:
    """Process ids of the group that still run."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return []
    import psutil  # only now: most groups have one member, and it has ended

    return [pid for pid in psutil.pids() if _runs_in(group, pid)]


def _runs_in(group: int, pid: int) -> bool:
    import psutil

    try:
        # Not every init reaps what it inherits, and a zombie answers signal 0 for ever.
        return os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False
