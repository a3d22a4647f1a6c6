"""`proa logs`: what a service, its Envoy, its agent or the control plane has printed."""

import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from mesh.cli.connection import state_of
from mesh.cli.options import Format, NamespaceOption, OutputOption, ServerOption, StateOption
from mesh.cli.output import write
from mesh.errors import NotFoundError, UsageError
from mesh.local.state import State

POLL = 0.2
"""Seconds between two looks at files that are followed."""

CONTROL_PLANE = "control-plane"


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Workload, instance, or control-plane.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    envoy: Annotated[bool, typer.Option("--envoy", help="Of the Envoy beside the service.")] = False,
    agent: Annotated[bool, typer.Option("--agent", help="Of the agent beside the service.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, metavar="N", help="Lines to begin with, of each file.")] = 100,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print the output of a service, or its sidecar."""
    if follow and output is not Format.TABLE:
        raise UsageError("--follow", f"what is followed has no end, and {output} needs one", "Leave out -o or --follow")
    if envoy and agent:
        raise UsageError("proa logs", "both --envoy and --agent are given", "Keep one of them")
    part = "envoy" if envoy else "agent" if agent else ""
    mesh = state_of(state, server)
    files = _files(mesh, name, namespace, part)
    if not files:
        raise NotFoundError(
            name, "there is no such log", f"Logs: {', '.join(sorted(_logs(mesh, part).values())) or 'none'}"
        )
    with ExitStack() as opened:
        if output is not Format.TABLE:
            found = [(label, line) for path, label in files.items() for line in Tail(path, tail, "", opened).lines()]
            write({"lines": [{"source": label, "line": line} for label, line in found]}, output)
            return
        tails = {path: Tail(path, tail, label if len(files) > 1 else "", opened) for path, label in files.items()}
        _print(tails.values(), flush=follow)
        while follow:
            time.sleep(POLL)
            # Instances that came since are followed from their first line on.
            for path, label in _files(mesh, name, namespace, part).items():
                if path not in tails:
                    tails[path] = Tail(path, None, label, opened)
            _print(tails.values(), flush=True)


def _print(tails: Iterable["Tail"], *, flush: bool) -> None:
    for one in tails:
        for line in one.lines():
            print(line, flush=flush)


class Tail:
    """The lines of a file from its last `count` on, all of them for None. Goes on in a new file, and in an emptied one.

    Files stay open as long as `opened`.
    """

    def __init__(self, path: Path, count: int | None, label: str, opened: ExitStack) -> None:
        self._path = path
        self._count = count
        self._label = f"{label} | " if label else ""
        self._opened = opened
        self._file: BinaryIO | None = None
        self._unfinished = b""

    def lines(self) -> Iterator[str]:
        """Those that were not given yet; an unfinished one only when it is finished."""
        lines = self._new_lines()
        if self._count is not None:
            lines = iter(deque(lines, maxlen=self._count))
            self._count = None
        return (self._label + line.decode(errors="replace") for line in lines)

    def _new_lines(self) -> Iterator[bytes]:
        if self._file is None or not self._is_same(self._file):
            yield from self._rest()
            self._file = self._opened.enter_context(self._path.open("rb")) if self._path.exists() else None
        if self._file and os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._unfinished = b""
        yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        for line in self._file or ():
            whole = self._unfinished + line
            if whole.endswith(b"\n"):
                self._unfinished = b""
                yield whole.rstrip(b"\r\n")
            else:
                self._unfinished = whole

    def _is_same(self, file: BinaryIO) -> bool:
        """Whether the path still names the file that is open, and not one that took its place."""
        return not self._path.exists() or os.path.samestat(os.fstat(file.fileno()), self._path.stat())


def _files(mesh: State, name: str, namespace: str | None, part: str) -> Mapping[Path, str]:
    """The logs that `name` means, each with the instance that wrote it."""
    if name == CONTROL_PLANE and mesh.control_plane_log.exists():
        return {mesh.control_plane_log: name}
    return {
        path: instance
        for path, instance in sorted(_logs(mesh, part).items())
        if _means(name, instance) and namespace in (None, instance.partition("/")[0])
    }


def _means(name: str, instance: str) -> bool:
    """Whether a person who says `name` means this `namespace/workload-0`."""
    _, _, short = instance.partition("/")
    workload, _, _ = short.rpartition("-")
    return name in (short, workload, instance, f"{instance.partition('/')[0]}/{workload}")


def _logs(mesh: State, part: str) -> dict[Path, str]:
    """The logs of services, or of their `envoy` or `agent`, each with `namespace/instance`."""
    ending = f".{part}.log" if part else ".log"
    found = re.compile(rf"(?P<namespace>[^.]+)\.(?P<instance>.+-[0-9]+){re.escape(ending)}")
    logs = {}
    for path in mesh.logs.glob(f"*{ending}"):
        if match := found.fullmatch(path.name):
            logs[path] = f"{match['namespace']}/{match['instance']}"
    return logs
