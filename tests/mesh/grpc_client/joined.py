"""`proa bootstrap grpc` as a process, and programs that use what it keeps."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.mesh.running import PROA, ROOT, RunningMesh, patience

WITHIN = 40.0
GENERATED = ROOT / "services" / "gen"
CALLER = Path(__file__).with_name("caller.py")


class Joined:
    """One `proa bootstrap grpc`. `said` is what it has printed on stdout, `log` on stderr."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, log: Path) -> None:
        self._process = process
        self._log = log
        self.folder = folder
        self.said = ""

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def bootstrap(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "bootstrap.json").read_text())
        return content

    @property
    def node(self) -> str:
        node: str = self.bootstrap["node"]["id"]
        return node

    async def until_ready(self) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN * patience()):
            self.said = (await self._process.stdout.readline()).decode()
        assert self.said, self.log

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> int:
        """Ctrl-C; its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(WITHIN * patience()):
            return await self._process.wait()


class Caller:
    """A process that calls when it is told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        async with asyncio.timeout(WITHIN * patience()):
            answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer

    async def call(self, name: str) -> str:
        """The status of one call."""
        status: str = (await self.ask(f"call {name}"))["status"]
        return status

    async def until(self, name: str, begins: str, within: float = WITHIN) -> None:
        """Calls until the status begins like that."""
        async with asyncio.timeout(within * patience()):
            while not (await self.call(name)).startswith(begins):  # noqa: ASYNC110 # a call is the only way to know
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def load(self, name: str) -> AsyncIterator[None]:
        """Calls go on while the block runs, before and after whatever it does; none of them may fail."""
        await self.ask(f"begin {name}")
        await self.went_on()
        yield
        await self.went_on()
        assert (await self.ask("end"))["failures"] == []

    async def went_on(self, more: int = 50) -> None:
        goal = (await self.ask("count"))["calls"] + more
        async with asyncio.timeout(WITHIN * patience()):
            while (await self.ask("count"))["calls"] < goal:  # noqa: ASYNC110 # another process counts
                await asyncio.sleep(0.02)


@asynccontextmanager
async def joined(
    mesh: RunningMesh, folder: Path, *more: str, account: str = "reporter", namespace: str = "bookstore"
) -> AsyncIterator[Joined]:
    """As the account, ready; ends in order with the block."""
    who = ["--service-account", account, "-n", namespace]
    where = ["--dir", str(folder), "--state", str(mesh.state.folder)]
    async with running_bootstrap(["bootstrap", "grpc", *who, *where, *more], folder) as it:
        yield it


@asynccontextmanager
async def running_bootstrap(command: Sequence[str], folder: Path, cwd: Path | None = None) -> AsyncIterator[Joined]:
    """`proa` with these arguments, which have it keep the folder."""
    log = folder.with_name(f"{folder.name}.log")
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            *PROA, *command, stdout=asyncio.subprocess.PIPE, stderr=stream, cwd=cwd
        )
    it = Joined(process, folder, log)
    try:
        await it.until_ready()
        yield it
    finally:
        await it.end()


@asynccontextmanager
async def calling(folder: Path, *program: str) -> AsyncIterator[Caller]:
    """A program, ours unless another is named, that has nothing but the bootstrap in the folder."""
    paths = [str(GENERATED), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = await asyncio.create_subprocess_exec(
        *(program or (sys.executable, str(CALLER))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(folder / "bootstrap.json"), "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()
