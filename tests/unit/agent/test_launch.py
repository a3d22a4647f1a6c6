"""How the service is started, and what keeps it from starting."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.agent.addresses import Addresses
from mesh.agent.launch import Launch, check, launch_for
from mesh.agent.plan import Plan
from mesh.errors import StartError
from mesh.model.workload import HealthCheck, HealthType, Port, Protocol, Stop

PLAN = Plan(
    command=("python", "-m", "orders", "${port}"),
    working_directory=Path("/"),
    env=(("DB", "${state}/orders.db"), ("HOST", "::1")),
    ports=(Port("main", 80, Protocol.HTTP, target_port=8080),),
    upstreams=(),
    health=HealthCheck(HealthType.HTTP),
    stop=Stop(),
    where="mesh.yaml:3",
    identity="",
    generation="",
)
ADDRESSES = Addresses(inbound={80: 20001}, app={80: 8080}, upstreams={}, outbound=20002, admin="")


def launch(inherited: Mapping[str, str]) -> Launch:
    return launch_for(PLAN, ADDRESSES, inherited=inherited, python="/venv/bin/python", state="/state")


def test_the_document_wins_over_what_is_given_and_that_over_what_is_inherited() -> None:
    env = launch({"PORT": "1", "HOST": "x", "DB": "y", "LANG": "C", "VIRTUAL_ENV": "/v", "PATH": "/bin"}).env

    assert dict(env) == {
        "PORT": "8080",
        "PORT_MAIN": "8080",
        "HOST": "::1",
        "DB": "/state/orders.db",
        "LANG": "C",
        "VIRTUAL_ENV": "/v",
        "PATH": "/bin",
    }


def test_python_is_that_of_proa_when_no_environment_is_activated() -> None:
    assert launch({"PATH": "/bin"}).env["PATH"] == "/venv/bin:/bin"


def test_variables_of_the_command_are_filled_in() -> None:
    assert launch({}).argv == ("python", "-m", "orders", "8080")


def runnable(folder: Path, *argv: str) -> Launch:
    return Launch(argv, folder, {"PATH": "/usr/bin:/bin"})


def free(_: int) -> bool:
    return True


@pytest.mark.parametrize("program", ["sh", "/bin/sh", "./run"])
def test_what_can_be_started_is_not_refused(tmp_path: Path, program: str) -> None:
    (tmp_path / "run").touch(mode=0o755)

    check(runnable(tmp_path, program), PLAN, free=free)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"mesh\.yaml:3: there is no folder .*/gone\. Make it"):
        check(runnable(tmp_path / "gone", "sh"), PLAN, free=free)


def test_a_command_that_is_not_on_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"mesh\.yaml:3: there is no command `nope` on the PATH"):
        check(runnable(tmp_path, "nope"), PLAN, free=free)


def test_a_whole_command_in_one_word_is_shown_in_words(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"Write each word by itself: \[node, server\.js\]"):
        check(runnable(tmp_path, "node server.js"), PLAN, free=free)


def test_a_program_that_is_not_there_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=rf"mesh\.yaml:3: there is no program {tmp_path}/bin/run"):
        check(runnable(tmp_path, "bin/run"), PLAN, free=free)


def test_a_file_that_may_not_be_executed_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch(mode=0o644)

    with pytest.raises(StartError, match=r"may not be executed\. Allow it: chmod"):
        check(runnable(tmp_path, "./run"), PLAN, free=free)


def test_a_fixed_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"mesh\.yaml:3: `targetPort: 8080` is in use by"):
        check(runnable(tmp_path, "sh"), PLAN, free=lambda port: port != 8080)


def test_a_port_that_the_agent_chose_is_not_looked_at_again(tmp_path: Path) -> None:
    chosen = replace(PLAN, ports=(Port("main", 80, Protocol.HTTP),))

    check(runnable(tmp_path, "sh"), chosen, free=lambda _: False)
