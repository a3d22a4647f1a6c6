"""What every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# `make test-long` sets 10. The machine is shared, so an example may take its time.
settings.register_profile("proa", max_examples=100 * int(os.environ.get("PROA_EFFORT", "1")), deadline=None)
settings.load_profile("proa")


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
