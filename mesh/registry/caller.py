"""Who makes a call: what is written of every change, and what a workload is held to.

In a context variable, which gRPC's handlers and the tasks that they start inherit: every change needs it, and nothing
that is decided about documents does.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is for people. `identity` is the SPIFFE id of a workload that has proven it, "" for anyone else."""

    name: str
    identity: str = ""

    @property
    def is_agent(self) -> bool:
        """Whether it comes by TCP for a workload: then it is told nothing of others."""
        return self.identity != "" or self is STRANGER


STRANGER: Final = Caller("whoever has a token")

CALLER: Final[ContextVar[Caller]] = ContextVar("caller", default=Caller("the control plane"))  # noqa: B039 (frozen)
