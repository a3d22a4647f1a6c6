"""`proa` commands without what Python takes to import them: each is a fork of one process that has done it.

Tests wait by commands, so there are a thousand of them, and a third of a second of computing for each adds up. As a
program of its own `proa` runs in the tests of the command line, and wherever a test calls `running.proa`.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

USED = (
    *("google.protobuf.json_format", "rich.console", "rich.table", "yaml"),
    *("mesh.cli.main", "mesh.cli.connection", "mesh.cli.output", "mesh.cli.remote", "mesh.config"),
    *(f"mesh.api.proa.v1.{name}_pb2_grpc" for name in ("agents", "documents", "status", "tokens", "workloads")),
)
"""What most commands import. What another one needs, it imports itself."""

_servers: list[tuple["subprocess.Popen[bytes]", Path]] = []
"""None or one. It ends with this process, which holds its stdin."""


def proa(*arguments: str, text: str = "", timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
    """One command, to its end, as by `running.proa`."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        stdin, stdout, stderr = files
        stdin.write(text)
        stdin.seek(0)
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(timeout)
        connection.connect(str(_listens()))
        request = json.dumps({"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)})
        socket.send_fds(connection, [b" "], [file.fileno() for file in files])
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        code = connection.recv(100)
        stdout.seek(0)
        stderr.seek(0)
        assert code, f"proa {arguments} ended without an exit code: {stderr.read()}"
        return subprocess.CompletedProcess(["proa", *arguments], int(code), stdout.read(), stderr.read())


def close() -> None:
    for server, _ in _servers:
        server.communicate()
    _servers.clear()


def _listens() -> Path:
    if not _servers:
        path = Path(tempfile.mkdtemp(prefix="warm-", dir=os.environ["XDG_RUNTIME_DIR"])) / "socket"
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        _servers.append((server, path))
    return _servers[-1][1]


def serve(path: str) -> None:
    for module in USED:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        children: set[int] = set()
        while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if not (child := os.fork()):
                    listener.close()
                    answer(connection)
                children.add(child)
            children -= {one for one in children if os.waitpid(one, os.WNOHANG)[0]}


def answer(connection: socket.socket) -> NoReturn:
    """Is the command, in the process made for it."""
    from mesh.cli.main import main

    code: object = "1"
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        request = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["proa", *request["arguments"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code or 0).encode())
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
