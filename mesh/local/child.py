"""A Proa process that is started again whenever it ends by itself."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from mesh.agent.backoff import Backoff, restarts
from mesh.agent.ending import describe
from mesh.agent.process import Process, start
from mesh.registry.changes import Changes


class Lifeline:
    """A pipe that children inherit. Its end tells them that this process has gone, however it went."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


class Child:
    """`python -m MODULE ARGUMENTS`, run until `stop` or `kill`; `changed` is called at each start and each end.

    `pid` is None while it does not run.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        lifeline: Lifeline,
        log: Path,
        changed: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        # -P: a folder called `mesh` or `grpc` where the user stands must not be imported instead of ours.
        self._argv = [sys.executable, "-P", "-m", module, *arguments, "--lifeline", str(lifeline.reader)]
        self._lifeline = lifeline
        self._changed = changed
        self._backoff = backoff or restarts()
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._last_signal: signal.Signals | None = None
        self._failures = Changes()
        self._ended = asyncio.Event()
        self._how_it_ended = ""
        self.last_words = ""
        """What it said last before it ended with an error, "" when a signal has ended it."""
        self._folder = Path.cwd()
        self.log = log

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def ends(self) -> int:
        """How often it ended without being asked."""
        return self._failures.number

    @property
    def how_it_ended(self) -> str:
        """The last time, for people: `exited with code 1 after 0.3 s: no such table`."""
        return self._how_it_ended

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Ends when the process has ended after `stop` or `kill`."""
        try:
            while not self.stopping:
                await self._run_once()
        finally:
            self._ended.set()

    async def failed(self, times: int) -> None:
        """Returns when it has ended so often without being asked."""
        await self._failures.after(times - 1)

    async def ended(self) -> None:
        """Returns when `run` has ended."""
        await self._ended.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end, and does not start it again."""
        self._stopping.set()
        self._last_signal = number
        if self._process:
            self._process.signal(number)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    async def _run_once(self) -> None:
        started = time.monotonic()
        try:
            status, said = await self._life()
        except OSError as error:  # no process can be made, or its log cannot be opened; that may pass
            lived = timedelta()
            self.last_words = str(error)
            self._how_it_ended = f"could not be started ({error})"
        else:
            lived = timedelta(seconds=time.monotonic() - started)
            self.last_words = said if status > 0 else ""
            self._how_it_ended = describe(status, lived, self.last_words)
        if not self.stopping:
            self._failures.notify()
        self._changed()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.after(lived).total_seconds()):
                await self._stopping.wait()

    async def _life(self) -> tuple[int, str]:
        """Of one process: its status, and what it said last."""
        inherited = (self._lifeline.reader,)
        self._process = await start(
            self._argv, cwd=self._folder, env=os.environ, log=self.log, guard=False, pass_fds=inherited
        )
        if self._last_signal:
            self._process.signal(self._last_signal)  # `stop` came while it was being started
        self._changed()
        status, said = await self._process.wait(), self._process.last_line.removeprefix("error: ")
        self._process = None
        return status, said
