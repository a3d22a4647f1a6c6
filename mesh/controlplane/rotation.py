"""The authority of the mesh, and its walk from one root to the next, which waits for what proxies have loaded."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from mesh.controlplane.attestation import trust_domain
from mesh.errors import StateError, UsageError
from mesh.identity import generation
from mesh.identity.ca import CertificateAuthority, serial
from mesh.identity.certificates import is_valid
from mesh.identity.folder import LOST_KEY, AuthorityFolder
from mesh.identity.generation import Generation
from mesh.identity.journal import Journal, Step
from mesh.registry.changes import Changes
from mesh.registry.leases import Loaded
from mesh.registry.registry import Registry

PATIENCE: Final = timedelta(seconds=10)
"""A forced rotation waits so long for those who do not follow: as long as a lease outlives its agent."""

SETTLE: Final = timedelta(seconds=1)
"""So long after the last proxy has followed the next step comes: handshakes that had begun are over, and Envoy's
workers have taken over, which they do a moment after `/certs` shows it."""

LOOK: Final = timedelta(seconds=2)
"""How often the files of somebody else's authority are looked at, and what could not be done is tried again."""

PUT_BACK: Final = "Put it back. To begin with a new one, end the mesh and start it again"

NOBODY: Final = "Restore it. No instance is left, so that you may also move {} away: a new authority is made"

MEND: Final = "Exchange the files there as a whole. Until then the mesh goes on with those before"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Follower:
    """A proxy that has not loaded what it should have by now, and what that is."""

    node_id: str
    why: str
    left_behind: bool


class Rotation:
    """Kept in `folder`, which is made when there is a trust domain. With a `source` its files are the authority.

    `changed` is told when it signs or trusts otherwise than before.
    """

    def __init__(
        self, folder: Path, registry: Registry, now: Callable[[], datetime], source: Path | None = None
    ) -> None:
        self.changed = Changes()
        self.source = source
        self._path = folder
        self._registry = registry
        self._now = now
        self._folder: AuthorityFolder | None = None
        self._problem: StateError | None = None
        self._wake = asyncio.Event()
        registry.changed.also(self._wake.set)
        self._step_began: float | None = None
        self._followed_since: float | None = None

    def authority(self) -> CertificateAuthority:
        """The one in force. Raises StateError when there is none that can be used."""
        return self.opened().authority

    def opened(self) -> AuthorityFolder:
        """Raises StateError when it cannot be used, NotFoundError before the mesh has its first document."""
        if self._folder is None:
            self._folder = AuthorityFolder.open(self._path, trust_domain(self._registry), self._now(), self._first)
            self._step_began = self._step_began or _time()
        return self._folder

    def problem(self) -> StateError | None:
        """What somebody has to mend, as it is now."""
        try:
            return self._problem or self.opened().key_problem()
        except StateError as error:
            return error

    def followers(self) -> tuple[Follower, ...]:
        """Who has not followed to the present step, sorted. Raises StateError."""
        folder = self.opened()
        lacking = ((lease.id.node_id, lacks(lease.report.loaded, folder)) for lease in self._registry.leases.values())
        left = folder.journal.left_behind
        return tuple(Follower(node, why, node in left) for node, why in sorted(lacking) if why)

    def expiries(self) -> Mapping[str, datetime]:
        """When the first root ends, what signs, and the first leaf that a proxy uses; nothing of what is not there."""
        ends = {"leaf": [one.not_after for lease in self._registry.leases.values() for one in lease.report.loaded]}
        if self._folder:
            ends["issuer"] = [self._folder.generations[self._folder.journal.signs].chain[0].not_valid_after_utc]
            ends["root"] = [root.not_valid_after_utc for root in self._folder.authority.roots]
        return {kind: min(times) for kind, times in ends.items() if times}

    def rotating(self) -> timedelta:
        """How long ago the present step of a rotation began, 0 when there is none."""
        if self._folder is None or self._folder.journal.step is Step.STEADY:
            return timedelta()
        return timedelta(seconds=_time() - (self._step_began or _time()))

    def rotate(self, *, force: bool) -> None:
        """Begins a rotation unless one runs; `force` holds for that one, too. Raises StateError and UsageError."""
        if self.source:
            problem = f"the roots of this mesh come from {self.source}"
            raise UsageError("proa ca rotate", problem, "Exchange the files there; the mesh follows")
        folder = self.opened()
        if folder.journal.step is Step.STEADY:
            coming = generation.made(folder.trust_domain, self._now())
            folder.begin(coming, self._now(), forced=force)
            self._tell(folder.journal)
        elif force:
            folder.force()
        self._wake.set()

    def check(self) -> None:
        """Raises StateError when there is no authority that can sign, and nobody who goes on with what he has."""
        if self._registry.state.trust_domain and not self._registry.leases and (why_not := self._why_not()):
            # This process ends here, and `proa ca rotate` needs one that runs.
            remedy = why_not.remedy.replace(LOST_KEY, NOBODY.format(self._path))
            raise StateError(why_not.where, why_not.problem, remedy)

    async def signing(self) -> None:
        """Returns as soon as there is an authority that can sign."""
        await self._begun()
        while self._why_not():
            await self.changed.after(self.changed.number, within=LOOK)

    async def run(self) -> NoReturn:
        """Takes each step when it is time. What goes wrong is said and tried again. Raises StateError as `check`."""
        await self._begun()
        while True:
            self._wake.clear()
            try:
                self._walk()
                self._say(None)
            except StateError as error:
                self.check()
                self._say(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._again()):
                    await self._wake.wait()

    async def _begun(self) -> None:
        """Returns when there is a trust domain: with the first document, or at once."""
        seen = self._registry.changed.number
        while not self._registry.state.trust_domain:
            seen = await self._registry.changed.after(seen)

    def _walk(self) -> None:
        if self._folder and self._folder.authority.problem:
            self._folder = None  # the key may be back
        folder = self.opened()
        if self.source:
            self._follow(folder, self.source)
        while folder.journal.step is not Step.STEADY and self._is_over(folder.journal):
            folder.advance(self._now(), tuple(one.node_id for one in self.followers()))
            self._tell(folder.journal)
        if problem := folder.authority.problem:
            raise problem

    def _is_over(self, journal: Journal) -> bool:
        if all(one.left_behind for one in self.followers()):
            self._followed_since = self._followed_since or _time()
            return _time() - self._followed_since >= SETTLE.total_seconds()
        self._followed_since = None
        return journal.forced and _time() - (self._step_began or 0) >= PATIENCE.total_seconds()

    def _follow(self, folder: AuthorityFolder, source: Path) -> None:
        """Another intermediate below the same roots signs at once; other roots are walked to."""
        coming, journal = self._from(source), folder.journal
        if journal.step is not Step.STEADY or coming.id == journal.current:
            return
        if set(coming.roots) == set(folder.generations[journal.current].roots):
            folder.replace(coming, self._now())
        else:
            folder.begin(coming, self._now())
        self._tell(folder.journal)

    def _first(self) -> Generation:
        """What a mesh begins with. Raises StateError when it has begun already: nobody would trust another one."""
        if self._registry.leases:
            raise StateError(str(self._path), "the authority is gone, and instances have its certificates", PUT_BACK)
        if self.source:
            return self._from(self.source)
        return generation.made(self._registry.state.trust_domain, self._now())

    def _from(self, source: Path) -> Generation:
        """Raises StateError for files that cannot be used."""
        found = generation.read(source, MEND, lost_key=MEND, others=0o007)
        if isinstance(found.key, StateError):
            raise found.key
        if not all(is_valid(one, self._now()) for one in found.chain):
            raise StateError(str(source / generation.CHAIN), "it has expired, or is not valid yet", MEND)
        return found

    def _why_not(self) -> StateError | None:
        """Why nothing can be signed, None when it can."""
        try:
            return self.authority().problem
        except StateError as error:
            return error

    def _tell(self, journal: Journal) -> None:
        log.info("authority step=%s signs=%s trusted=%s", journal.step, journal.signs, ",".join(journal.trusted))
        self._step_began, self._followed_since = _time(), None
        self.changed.notify()

    def _say(self, problem: StateError | None) -> None:
        if str(problem) != str(self._problem):
            log.error("authority reason=%s", problem) if problem else log.info("authority mended")
        self._problem = problem

    def _again(self) -> float | None:
        """Seconds until it is time to look again although nothing has happened."""
        if self._followed_since is not None:
            return max(0.0, SETTLE.total_seconds() - (_time() - self._followed_since))
        is_steady = self._folder is not None and self._folder.journal.step is Step.STEADY
        return None if is_steady and not self.source and not self._problem else LOOK.total_seconds()


def _time() -> float:
    return asyncio.get_running_loop().time()


def lacks(loaded: Iterable[Loaded], folder: AuthorityFolder) -> str:
    """What a proxy with these certificates lacks in the present step, for people; "" when it lacks nothing."""
    journal, loaded = folder.journal, tuple(loaded)
    if not loaded:
        return "it has not said what it has loaded"
    first = serials(folder.generations, journal.trusted[:1])[:1]
    if not all(set(first) <= set(one.roots) for one in loaded):
        return "it does not trust the new root yet"
    if journal.step is not Step.TRUST and not all(one.issuer == journal.signs for one in loaded):
        return "its leaf is not signed by the new root yet"
    trusted = set(serials(folder.generations, journal.trusted))
    if journal.step is Step.RETIRE and not all(trusted.issuperset(one.roots) for one in loaded):
        return "it still trusts the old root"
    return ""


def serials(generations: Mapping[str, Generation], ids: Iterable[str]) -> tuple[str, ...]:
    """Of the roots of these generations, in their order."""
    return tuple(serial(root) for id_ in ids for root in generations[id_].roots)
