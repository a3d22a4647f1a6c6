"""What people get who write or ask for something that cannot work: where, what, what to do, and never a traceback."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.running import BOOKSTORE, RunningMesh, documents, eventually, patience, proa, workload

pytestmark = pytest.mark.envoy

SLEEP = {"command": ["sleep", "1000"], "health": {"type": "none"}}


def longer(seconds: float) -> int:
    """So many seconds, and on a busy machine more: time in which everything gets as far as it can."""
    return round(seconds * patience())


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*parts: Any, name: str = "mesh.yaml") -> Path:
        path = tmp_path / name
        path.write_text(documents(*parts))
        return path

    return write


@pytest.fixture(autouse=True)
def no_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert "Traceback" not in "".join(capfd.readouterr())


def test_bad_documents_are_left_out_and_the_rest_runs(
    launch: Callable[..., RunningMesh], written: Callable[..., Path]
) -> None:
    file = written(
        workload("good", **SLEEP),
        workload("good", **SLEEP),
        workload("field", **SLEEP, replicsa=2),
        workload("unit", **SLEEP, stop={"drain": 5}),
        {**workload("kind", **SLEEP), "kind": "Wrkload"},
        {**workload("unbuilt", **SLEEP), "kind": "Gateway"},
        workload("lonely", **SLEEP, upstreams=[{"service": "goood"}]),
    )
    mesh = launch(file)

    assert re.search(r"^mesh ready: 2 workloads, 2 instances, 5 documents left out \(", mesh.printed, re.MULTILINE)
    for line, problem in (
        (3, r"Workload/test/good is already at \S+:1 \(left out\)\. Rename"),
        (5, r"unknown field spec\.replicsa \(left out\)\. Did you mean replicas\?"),
        (7, r"spec\.stop\.drain: 5 has no unit \(left out\)\. Write for example 5s"),
        (9, r"there is no kind Wrkload \(left out\)\. Did you mean Workload\?"),
        (11, r"kind Gateway is not built yet \(left out\)\. This version knows "),
        (13, r"upstream goood: there is no service goood in namespace test\. Did you mean good\?"),
    ):
        assert re.search(rf"^warning: {re.escape(str(file))}:{line}: {problem}", mesh.printed, re.MULTILINE), (
            line,
            mesh.printed,
        )


def test_nothing_usable_is_wrong_input(written: Callable[..., Path], tmp_path: Path) -> None:
    for file in (written({"kind": "Workload"}), written(name="empty.yaml")):
        done = proa("up", str(file), "--state", str(tmp_path / "state"))

        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            "error: proa up: there is no document that can be used. Correct them, or name another file"
        )


def test_workloads_that_do_not_get_ready_are_named_with_the_reason(
    launch: Callable[..., RunningMesh], written: Callable[..., Path]
) -> None:
    file = written(
        workload("good", **SLEEP),
        workload("absent", command=["no-such-program"], health={"type": "none"}),
        workload("exits", command=["sh", "-c", "echo no table books; exit 3"], health={"type": "none"}),
        workload("homeless", **{**SLEEP, "workingDirectory": "/no/such/folder"}),
        workload("mute", command=["sleep", "1000"], ports=[{"port": 50051}]),
        workload("typo", command=["echo", "${prot}"], health={"type": "none"}),
    )
    within = longer(12)
    mesh = launch(file, ready=False, timeout=f"{within}s")

    assert mesh.wait(within=35) == 1
    last = mesh.printed.splitlines()[-1]
    assert last.startswith(f"error: proa up: 5 of 6 instances are not ready within {within} s. Mend what is named")
    for line, name, reason in (
        (3, "absent", r"no-such-program"),
        (5, "exits", r"exited with code 3(.|\n)*    no table books"),
        (7, "homeless", r"/no/such/folder"),
        (9, "mute", r"gRPC"),
        (11, "typo", r"prot"),
    ):
        told = rf"^warning: {re.escape(str(file))}:{line}: test/{name}-0 is not ready: .*{reason}"
        assert re.search(told, mesh.printed, re.MULTILINE), mesh.printed
    assert "Traceback" not in mesh.printed
    mesh.assert_nothing_is_left()


def test_a_fixed_port_in_use_is_named_with_its_holder(
    launch: Callable[..., RunningMesh], written: Callable[..., Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spec = {"command": ["sleep", "1000"], "ports": [{"port": 80, "appProtocol": "tcp", "targetPort": port}]}
        mesh = launch(written(workload("web", **spec)), ready=False, timeout=f"{longer(15)}s")

        assert mesh.wait(within=40) == 1
        assert re.search(rf"test/web-0 is not ready: .*{port}.*(pid|process) \d+", mesh.printed), mesh.printed


def test_an_envoy_that_will_not_start(launch: Callable[..., RunningMesh], written: Callable[..., Path]) -> None:
    false = {"PROA_ENVOY": "/bin/false"}
    mesh = launch(written(workload("web", **SLEEP)), ready=False, timeout=f"{longer(10)}s", env=false)

    assert mesh.wait(within=40) == 1
    assert re.search(r"test/web-0 is not ready: .*(envoy|Envoy|/bin/false)", mesh.printed), mesh.printed
    assert "Traceback" not in mesh.printed


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda state: state.write_text("x"), "this is a file, not a folder", id="a file"),
        pytest.param(
            lambda state: (state.mkdir(mode=0o755), (state / "letters.txt").touch()),
            "others may look into this folder",
            id="somebody's folder",
        ),
        pytest.param(
            lambda state: (state.mkdir(mode=0o700), (state / "state.db").write_bytes(b"no database" * 100)),
            "state.db",
            id="a spoiled database",
        ),
        pytest.param(
            lambda state: (state.mkdir(mode=0o700), (state / "ports.json").write_text("{")),
            "ports.json: it is no list of ports",
            id="spoiled ports",
        ),
        pytest.param(
            lambda state: (
                state.mkdir(mode=0o700),
                (state / "ca").mkdir(),
                (state / "ca" / "root.key").write_text("x"),
            ),
            "ca",
            id="a spoiled CA",
        ),
    ],
)
def test_a_state_folder_that_cannot_be_used(
    spoil: Callable[[Path], object], problem: str, tmp_path: Path, written: Callable[..., Path]
) -> None:
    state = tmp_path / "state"
    spoil(state)
    done = proa("up", str(written(workload("web", **SLEEP))), "--state", str(state), "--timeout", f"{longer(20)}s")

    assert done.returncode == 1
    assert problem in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        pytest.param(["up", "absent.yaml"], 2, "error: absent.yaml: this file cannot be read", id="no such file"),
        pytest.param(["up", str(BOOKSTORE), "--timeout", "5"], 2, "error: --timeout: '5' is not a dur", id="no unit"),
        pytest.param(["up"], 2, "Missing argument", id="no file"),
        pytest.param(["fly"], 2, "No such command 'fly'", id="no such command"),
        pytest.param(["get"], 2, "Missing argument", id="no kind"),
        pytest.param(["delete"], 2, "error: proa delete: what is to be deleted is not clear", id="delete what?"),
        pytest.param(["get", "workloads"], 1, "no mesh runs on this state folder", id="no mesh"),
        pytest.param(["get", "workloads", "--server", ""], 2, "error: --server: this is no address", id="no address"),
        pytest.param(["down"], 1, "there is no mesh in this folder", id="nothing to end"),
        pytest.param(
            ["get", "workloads", "--server", "unix:/no/such.sock"], 1, "the control plane does not answer", id="nobody"
        ),
        pytest.param(
            ["render", "-f", str(BOOKSTORE), "--proxy", "x", "-o", "table"], 2, "'table' is not one of", id="a table"
        ),
    ],
)
def test_a_command_that_cannot_work(
    arguments: list[str], exit_code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = proa(*arguments)

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_listens_beyond_loopback_is_named(
    launch: Callable[..., RunningMesh], written: Callable[..., Path]
) -> None:
    serve = ["${python}", "-m", "http.server", "--bind", "0.0.0.0", "${port}"]
    file = written(workload("web", command=serve, ports=[{"port": 80, "appProtocol": "http"}]))
    mesh = launch(file)

    warning = (
        rf"warning: {re.escape(str(file))}:1: test/web listens on 0\.0\.0\.0:\d+: others on the network can reach it"
    )
    eventually(lambda: re.search(warning, mesh.printed), otherwise=lambda: mesh.printed)
