"""Starts a program that does not outlive its parent.

`python -I -S launcher.py --parent PID [--guard FD] [--files N] -- PROGRAM`.

A plain file that imports little, so that it costs some 20 ms: it arranges for its own death and execs, so the process
id is the program's own. It exists because `preexec_fn` runs Python between fork and exec, which hangs beside gRPC.
"""

import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""

COMMAND_NOT_FOUND, COMMAND_NOT_RUNNABLE = 127, 126
"""What a shell exits with in the same cases."""


def main(arguments: list[str]) -> NoReturn:
    separator = arguments.index("--")
    options = dict(zip(arguments[:separator:2], arguments[1:separator:2], strict=True))
    die_with(int(options["--parent"]))
    if "--guard" in options:
        leave_guard(int(options["--guard"]))
    if "--files" in options:
        allow_files(int(options["--files"]))
    become(arguments[separator + 1 :])


def die_with(parent: int) -> None:
    """SIGKILL for this process when the thread that started it ends. The setting survives exec. Linux only."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it ended before the setting was in place


def allow_files(wanted: int) -> None:
    """Up to so many open files, as far as the hard limit goes. Shells begin with 1,024, and a connection is a file."""
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if now != resource.RLIM_INFINITY and now < limit:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        except (OSError, ValueError):
            pass  # macOS says that there is no limit, and has one


def leave_guard(pipe: int) -> None:
    """Leaves a process behind that kills this process group once nobody holds the write end of `pipe`.

    That reaches grandchildren too, and systems without a parent-death signal. It is a shell (1 MB instead of Python's
    10) in a session of its own, so that no signal to the group ends it first.
    """
    group = os.getpgrp()
    if child := os.fork():
        os.waitpid(child, 0)
        os.close(pipe)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream, source in enumerate((pipe, null, null)):
            os.dup2(source, stream)
        close_all_from(3)
        os.execv("/bin/sh", ["sh", "-c", f"read -r _; kill -s KILL -- -{group}"])  # noqa: S606
    finally:
        os._exit(COMMAND_NOT_FOUND)


def close_all_from(first: int) -> None:
    """By a list of those that are open: where a process may have 10^9 of them, trying each takes minutes."""
    for descriptor in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 (pathlib costs 10 ms)
        if descriptor >= first:
            try:
                os.close(descriptor)
            except OSError:  # that of the list itself
                continue


def become(command: list[str]) -> NoReturn:
    # Python ignores these two, and what is ignored stays so across exec: `yes | head` would never end.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 (not running a shell is the point)
    except FileNotFoundError:
        print(f"proa: {command[0]}: there is no such command, or not what its first line names", file=sys.stderr)
        sys.exit(COMMAND_NOT_FOUND)
    except OSError as error:
        print(f"proa: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(COMMAND_NOT_RUNNABLE)


if __name__ == "__main__":
    main(sys.argv[1:])
