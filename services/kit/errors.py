"""What a service may say no with. `status` turns a `Refusal` into a gRPC status; only the edge knows codes."""

from collections.abc import Mapping
from dataclasses import dataclass, field


class StartError(Exception):
    """The service cannot start. `where` is a setting or a path."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. {remedy}")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that was wrong: `subject` is a field of the request, or what the condition is about."""

    subject: str
    problem: str


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The business says no. The caller is told all of it, so it holds nothing that a caller must not know.

    `reason` is for programs: UPPER_SNAKE_CASE, never changed. `message` is for people.
    """

    reason: str
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()

    def __str__(self) -> str:
        return self.message


class Invalid(Refusal):
    """The request can never succeed as it is. `violations` name its fields."""


class NotFound(Refusal):
    """What the request names does not exist."""


class AlreadyExists(Refusal):
    """What the request would make exists, and is something else."""


class Unmet(Refusal):
    """The request was fine, but not in the present state of things. `violations` say what stands in its way."""


def check(*rules: tuple[bool, str, str]) -> None:
    """Raises `Invalid` with every rule that does not hold. A rule is (holds, field, what the field has to be)."""
    broken = tuple(Violation(field, problem) for holds, field, problem in rules if not holds)
    if broken:
        message = "; ".join(f"{violation.subject}: {violation.problem}" for violation in broken)
        raise Invalid("INVALID_REQUEST", message, violations=broken)
