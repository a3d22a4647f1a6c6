"""`proa logs`: which files a name means, and their lines."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.cli.logs import Tail, _files
from mesh.local.state import State


@pytest.fixture
def mesh(tmp_path: Path) -> State:
    state = State.at(tmp_path)
    state.logs.mkdir()
    for name in (
        "shop.orders-0.log",
        "shop.orders-0.envoy.log",
        "shop.orders-0.agent.log",
        "shop.orders-10.log",
        "shop.orders-v2-0.log",
        "attic.orders-0.log",
        "control-plane.log",
        "shop.orders-0.log.1",
    ):
        (state.logs / name).touch()
    return state


@pytest.mark.parametrize(
    ("name", "namespace", "part", "instances"),
    [
        pytest.param("orders", None, "", ["attic/orders-0", "shop/orders-0", "shop/orders-10"], id="a workload"),
        pytest.param("orders", "shop", "", ["shop/orders-0", "shop/orders-10"], id="in one namespace"),
        pytest.param("shop/orders", None, "", ["shop/orders-0", "shop/orders-10"], id="with its namespace"),
        pytest.param("orders-10", None, "", ["shop/orders-10"], id="an instance"),
        pytest.param("orders-v2", None, "", ["shop/orders-v2-0"], id="a workload with a number in its name"),
        pytest.param("orders", None, "envoy", ["shop/orders-0"], id="its Envoy"),
        pytest.param("orders-0", None, "agent", ["shop/orders-0"], id="its agent"),
        pytest.param("control-plane", None, "", ["control-plane"], id="the control plane"),
        pytest.param("order", None, "", [], id="nothing"),
    ],
)
def test_what_a_name_means(mesh: State, name: str, namespace: str | None, part: str, instances: list[str]) -> None:
    assert list(_files(mesh, name, namespace, part).values()) == instances


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as files:
        yield files


def test_a_tail_gives_the_last_lines_and_then_each_line_once(tmp_path: Path, opened: ExitStack) -> None:
    log = tmp_path / "service.log"
    log.write_text("one\ntwo\nthree\nfo")
    tail = Tail(log, 2, "orders-0", opened)

    assert list(tail.lines()) == ["orders-0 | two", "orders-0 | three"]
    with log.open("a") as file:
        file.write("ur\nfive\n")
    assert list(tail.lines()) == ["orders-0 | four", "orders-0 | five"]
    assert list(tail.lines()) == []


def test_a_tail_goes_on_in_the_new_file_after_a_rotation(tmp_path: Path, opened: ExitStack) -> None:
    log = tmp_path / "service.log"
    log.write_text("one\n")
    tail = Tail(log, None, "", opened)
    assert list(tail.lines()) == ["one"]

    with log.open("a") as file:
        file.write("last of the old\n")
    log.rename(tmp_path / "service.log.1")
    assert list(tail.lines()) == ["last of the old"]
    log.write_text("first of the new\n")
    assert list(tail.lines()) == ["first of the new"]


def test_a_tail_goes_on_in_a_file_that_was_emptied(tmp_path: Path, opened: ExitStack) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"one\ntwo\n")
    tail = Tail(log, None, "", opened)
    assert list(tail.lines()) == ["one", "two"]

    log.write_bytes(b"new\n")

    assert list(tail.lines()) == ["new"]
