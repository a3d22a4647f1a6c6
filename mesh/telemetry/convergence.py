"""How long the mesh takes to follow a change."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Final, NoReturn

from mesh.registry.changes import Changes
from mesh.registry.status import StatusBoard

PATIENCE: Final = timedelta(hours=1)
"""Until somebody who does not answer is waited for anew."""


@dataclass(eq=False)
class Convergence:
    """Times changes from when they happened until every connected proxy has answered for them; a refusal is an answer.

    Those that come before the last answer are timed together, from the first of them that is not answered for. A
    change for which nothing is sent is not timed. `published` returns when what has changed before is on the `board`.
    """

    changed: Changes
    published: Callable[[], Awaitable[None]]
    board: StatusBoard
    _: KW_ONLY
    uptime: Callable[[], timedelta]
    observe: Callable[[float], None]
    _timed: timedelta | None = None
    _next: timedelta | None = None

    def __post_init__(self) -> None:
        self._seen = self.changed.number
        self.changed.also(self._note)

    def pending(self) -> timedelta:
        """How long ago the oldest change was that is not answered for; zero when there is none."""
        began = self._next if self._timed is None else self._timed
        return self.uptime() - began if began is not None else timedelta()

    async def run(self) -> NoReturn:
        """Calls `observe` with the seconds of each change, until it is cancelled."""
        while True:
            self._seen = await self.changed.after(self._seen)
            self._timed, self._next = self._next, None
            sent = self._sent()
            await self.published()
            while not await self.board.wait_synced(PATIENCE):
                pass
            if self._sent() > sent:
                self.observe(self.pending().total_seconds())
            self._timed = None

    def _sent(self) -> int:
        return sum(tally.responses for tally in self.board.totals().values())

    def _note(self) -> None:
        # Here and not where `run` wakes up: by then the change may have been compiled.
        if self._next is None:
            self._next = self.uptime()
