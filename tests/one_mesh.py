"""Which worker of pytest-xdist runs what: tests that have one mesh go to one worker, so that it starts once.

By what a test says it wants, in its text: whoever distributes tests knows their names alone. (`--dist=loadgroup` of
pytest-xdist 3.8 is without effect in pytest 9.2, which does not let it write the group behind a name.)
"""

import re
from functools import lru_cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

OF_A_MODULE = re.compile(r"\b(mended|attacked|plane|shop|minute|stocks): ")
"""Fixtures that are one mesh for the tests of a module."""


class OneMesh(LoadScopeScheduling):
    """The largest groups first, then the tests that have what they need for themselves, each when a worker is free."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    path, _, test = nodeid.partition("::")
    source = text(path)
    if re.search(rf"def {test.partition('[')[0]}\([^)]*\bshared: ", source):
        return "shared"
    return path if OF_A_MODULE.search(source) else nodeid


@lru_cache
def text(path: str) -> str:
    return (Path(__file__).parents[1] / path).read_text()
