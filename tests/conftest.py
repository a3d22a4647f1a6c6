"""What every test may use."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import guard
from tests.one_mesh import OneMesh

# `make test-long` sets 10. The machine is shared, so an example may take its time.
settings.register_profile("proa", max_examples=100 * int(os.environ.get("PROA_EFFORT", "1")), deadline=None)
settings.load_profile("proa")

GUARD = pytest.StashKey["subprocess.Popen[bytes]"]()
ENDS_WITHIN = 10.0
"""Seconds for processes that were told to end."""


def pytest_configure(config: pytest.Config) -> None:
    """What tests start is known by the folder of its sockets, and gone with it in the end, however that comes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # `make test &` in a script: what tests start would not hear a Ctrl-C either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return  # one of several, which inherits what is set here
    folder = tempfile.mkdtemp(prefix="proa-tests-", dir="/tmp")
    # In a session of its own, which Ctrl-C does not reach.
    watching = subprocess.Popen([sys.executable, guard.__file__, folder], stdin=subprocess.PIPE, start_new_session=True)
    config.stash[GUARD] = watching
    os.environ[guard.VARIABLE] = folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves processes behind has failed."""
    if GUARD not in session.config.stash:
        return
    folder = Path(os.environ[guard.VARIABLE])
    deadline = time.monotonic() + ENDS_WITHIN
    while (left := guard.started_within(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        print("\nerror: left behind by the tests:", *left, sep="\n  ", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    if watching := config.stash.get(GUARD, None):
        watching.communicate()


@pytest.hookimpl(optionalhook=True)  # without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneMesh | None:
    return OneMesh(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected output (`make golden`)")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Path], None]:
    """`golden(text, path)` asserts that the file holds `text`; with --update-golden it writes the file instead."""

    def assert_golden(text: str, path: Path) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        expected = path.read_text() if path.exists() else ""
        assert text == expected, f"{path} holds something else. If the new output is right: make golden"

    return assert_golden
