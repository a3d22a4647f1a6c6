"""What is free and who has the rest, with real sockets."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.agent.ports import LOOPBACK, PortBook, holder, is_free


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which somebody listens with SO_REUSEPORT, as Envoy and grpcio do."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_on_which_somebody_listens_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_a_port_with_a_connection_that_has_just_ended_is_free() -> None:
    """Its socket stays in TIME_WAIT for a minute, with the side that closed first."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        caller = socket.create_connection((LOOPBACK, port))
        accepted, _ = listener.accept()
        accepted.close()
        caller.close()

    assert is_free(port)


def test_the_holder_of_a_port_is_named(taken: int) -> None:
    assert holder(taken).startswith(f"pid {os.getpid()} (")


def test_a_free_port_has_no_holder() -> None:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))

        assert holder(bound.getsockname()[1]) == ""


def test_owners_that_ask_at_the_same_time_get_different_ports(tmp_path: Path) -> None:
    def ask(owner: str) -> None:
        PortBook(tmp_path / "ports.json").allocate(owner, ["app/1", "inbound/1", "outbound"])

    threads = [threading.Thread(target=ask, args=(str(owner),)) for owner in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    given = [port for owner in range(16) for port in PortBook(tmp_path / "ports.json").ports_of(str(owner)).values()]
    assert len(given) == len(set(given)) == 16 * 3
