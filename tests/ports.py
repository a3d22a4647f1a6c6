"""Ports for servers of tests that have to be told one."""

import itertools
import random
from typing import Final

from mesh.agent.ports import is_free

RANGE: Final = range(10_000, 20_000)
"""Below those of meshes (`mesh.agent.ports`), and of everybody who takes any: the kernel gives nobody one of these
between our look and its use, as it does with a port that it has given to us and got back."""

# Not `random` itself, to which Hypothesis gives the same seed in every process.
_numbers = itertools.cycle(RANGE)
_numbers = itertools.dropwhile(lambda number, first=random.SystemRandom().choice(RANGE): number != first, _numbers)


def free_port(neighbours: int = 0) -> int:
    """A port that is free and was not given to anybody before, as are so many above it."""
    ports = [next(_numbers)]
    while len(ports) <= neighbours or not all(map(is_free, ports)):
        ports = [*ports, next(_numbers)][-1 - neighbours :]
    return ports[0]
