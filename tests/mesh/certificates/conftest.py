"""For an Envoy of a test's own."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """For a unix socket."""
    with TemporaryDirectory(prefix="proa-", dir="/tmp") as folder:
        yield Path(folder)
