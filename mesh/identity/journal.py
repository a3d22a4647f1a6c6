"""How far the walk from one root to the next has come. Pure; the folder of the authority keeps it."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any


class Step(StrEnum):
    """Each one begins when every proxy has loaded what the one before has brought.

    STEADY: one generation. TRUST: the next root is in every bundle. RENEW: the next one signs. RETIRE: the old root is
    in no bundle any more.
    """

    STEADY = "steady"
    TRUST = "trust"
    RENEW = "renew"
    RETIRE = "retire"


FOLLOWS = {Step.TRUST: Step.RENEW, Step.RENEW: Step.RETIRE, Step.RETIRE: Step.STEADY}


@dataclass(frozen=True, slots=True)
class Journal:
    """`current` and `next` are ids of generations, `next` empty while STEADY.

    `since` is when the step began. `forced` rotations wait for nobody for long: `left_behind` are the node ids of those
    that they have not waited for.
    """

    current: str
    since: datetime
    step: Step = Step.STEADY
    next: str = ""
    forced: bool = False
    left_behind: tuple[str, ...] = ()

    @property
    def signs(self) -> str:
        return self.next if self.step in (Step.RENEW, Step.RETIRE) else self.current

    @property
    def trusted(self) -> tuple[str, ...]:
        """The newest first: an Envoy before 1.40 shows only the first."""
        return tuple(filter(None, (self.next, self.current if self.step is not Step.RETIRE else "")))

    def towards(self, generation: str, now: datetime, *, forced: bool) -> "Journal":
        """The beginning of a rotation."""
        return Journal(self.current, now, Step.TRUST, generation, forced)

    def after(self, left_behind: tuple[str, ...], now: datetime) -> "Journal":
        """The next step. `left_behind` are those that have not followed to this one."""
        left = tuple(sorted({*self.left_behind, *left_behind}))
        if self.step is Step.RETIRE:
            return Journal(self.next, now, left_behind=left)
        return replace(self, step=FOLLOWS[self.step], since=now, left_behind=left)

    @property
    def text(self) -> str:
        return json.dumps({**asdict(self), "since": self.since.isoformat()}, indent=2) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Journal":
        """Raises ValueError for anything else than what `text` gives."""
        match json.loads(text):
            case {"current": str(current), "since": str(since), "step": str(step), "next": str(coming), **rest}:
                more: Any = rest
                left = tuple(map(str, more.get("left_behind", ())))
                began = datetime.fromisoformat(since)
                journal = cls(current, began, Step(step), coming, bool(more.get("forced")), left)
                if current and bool(coming) == (journal.step is not Step.STEADY):
                    return journal
        raise ValueError("this is no journal of an authority")
