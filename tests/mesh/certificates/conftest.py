"""For an Envoy of a test's own."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """For a unix socket."""
    with TemporaryDirectory(prefix="proa-", dir=os.environ["XDG_RUNTIME_DIR"]) as folder:
        yield Path(folder)
