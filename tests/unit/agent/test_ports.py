"""The port book: who has which port, kept over restarts."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.agent.ports import RANGE, PortBook
from mesh.errors import StartError, StateError


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., PortBook]:
    """A port book whose machine has these ports taken, and that tries port 20000 first."""

    def make(*taken: int) -> PortBook:
        return PortBook(tmp_path / "ports.json", free=lambda port: port not in taken, first=lambda: RANGE.start)

    return make


def test_each_name_gets_a_port_of_its_own(book: Callable[..., PortBook]) -> None:
    assert book().allocate("a", ["app/1", "outbound"]) == {"app/1": 20000, "outbound": 20001}


def test_an_owner_keeps_its_ports(book: Callable[..., PortBook]) -> None:
    first = book().allocate("a", ["app/1", "outbound"])

    assert book().allocate("a", ["outbound", "app/1"]) == first


def test_a_port_that_was_taken_meanwhile_is_replaced_and_the_others_stay(book: Callable[..., PortBook]) -> None:
    book().allocate("a", ["app/1", "outbound"])

    assert book(20000).allocate("a", ["app/1", "outbound"]) == {"app/1": 20002, "outbound": 20001}


def test_a_new_name_never_takes_a_port_that_another_name_of_the_owner_had(book: Callable[..., PortBook]) -> None:
    book().allocate("a", ["app/1"])

    assert book(20000).allocate("a", ["outbound", "app/1"]) == {"outbound": 20001, "app/1": 20002}


def test_a_free_port_of_another_owner_is_left_alone(book: Callable[..., PortBook]) -> None:
    book().allocate("a", ["outbound"])

    assert book().allocate("b", ["outbound"]) == {"outbound": 20001}


def test_a_name_that_is_not_asked_for_any_more_loses_its_port(book: Callable[..., PortBook]) -> None:
    book().allocate("a", ["app/1", "outbound"])
    book().allocate("a", ["outbound"])

    assert book().ports_of("a") == {"outbound": 20001}
    assert book().allocate("b", ["outbound"]) == {"outbound": 20000}


def test_nobody_has_a_port_in_a_book_that_is_not_there(book: Callable[..., PortBook]) -> None:
    assert book().ports_of("a") == {}


def test_the_search_goes_round_the_end_of_the_range(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json", free=lambda _: True, first=lambda: RANGE.stop - 1)

    assert book.allocate("a", ["x", "y"]) == {"x": 32767, "y": 20000}


def test_a_machine_without_a_free_port_is_told_so(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json", free=lambda _: False)

    with pytest.raises(StartError, match="no port from 20000 to 32767 is free"):
        book.allocate("a", ["x"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param('{"a": 1}', id="an owner without names"),
        pytest.param('{"a": {"x": "y"}}', id="a port that is no number"),
    ],
)
def test_a_spoiled_book_is_named_and_may_be_deleted(tmp_path: Path, book: Callable[..., PortBook], text: str) -> None:
    (tmp_path / "ports.json").write_text(text)

    with pytest.raises(StateError, match=r"ports\.json: it is no list of ports.*Delete it"):
        book().allocate("a", ["x"])


def test_a_book_that_cannot_be_read_is_not_to_be_deleted(tmp_path: Path, book: Callable[..., PortBook]) -> None:
    (tmp_path / "ports.json").mkdir()

    with pytest.raises(StateError, match=r"ports\.json: it cannot be read: Is a directory\. See that you may"):
        book().ports_of("a")


def test_the_book_is_for_its_owner_alone(tmp_path: Path, book: Callable[..., PortBook]) -> None:
    book().allocate("a", ["x"])

    assert [path.name for path in tmp_path.iterdir()] == ["ports.json"]
    assert stat.S_IMODE((tmp_path / "ports.json").stat().st_mode) == 0o600
