"""The authority of a state folder: made at the first start and kept, and each step of a rotation is one rename."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mesh.errors import StateError
from mesh.identity import generation
from mesh.identity.ca import CertificateAuthority, trust_domain_of
from mesh.identity.generation import Generation
from mesh.identity.journal import Journal, Step

JOURNAL: Final = "authority.json"
BUNDLE: Final = "roots.pem"
"""The roots that are trusted, for other programs. Written after the journal, and never read."""

START_OVER: Final = "Restore it, or remove the folder to start with a new authority (and restart all instances)"
LOST_KEY: Final = "Restore it, or go on with another root, which costs no call: proa ca rotate"
DISK: Final = "Look whether its disk has room and it may be written. The authority goes on as it was"


class AuthorityFolder:
    """A folder for each generation, and a journal of which of them counts for what.

    Only one process may use it at a time. What is there is never overwritten: a method that raises StateError, or does
    not come to its end, has changed nothing, and one that returns is on disk.
    """

    def __init__(self, path: Path, trust_domain: str, journal: Journal) -> None:
        self._path = path
        self.trust_domain = trust_domain
        self.journal = journal
        self.generations: dict[str, Generation] = {}
        """Those that are trusted, the newest first."""
        self.authority = self._take(journal)

    @classmethod
    def open(
        cls, path: Path, trust_domain: str, now: datetime, first: Callable[[], Generation] | None = None
    ) -> "AuthorityFolder":
        """The one kept in `path`. If there is none it is made of `first`, or with a root of our own.

        Raises StateError when it cannot be used, with what to do.
        """
        try:
            if not path.exists() or not any(path.iterdir()):
                _make(path, first() if first else generation.made(trust_domain, now), now)
            journal = Journal.from_text((path / JOURNAL).read_text())
        except OSError as error:
            where = str(error.filename or path)
            raise StateError(where, f"the authority cannot be read or made ({error.strerror})", START_OVER) from error
        except ValueError as error:
            raise StateError(str(path / JOURNAL), "it is no journal of an authority", START_OVER) from error
        opened = cls(path, trust_domain, journal)
        opened._check(now)
        opened._publish()
        return opened

    def begin(self, coming: Generation, now: datetime, *, forced: bool = False) -> None:
        """From STEADY towards another generation."""
        assert self.journal.step is Step.STEADY
        with _explained(self._path):
            self._sweep()
            _keep(self._path, coming)
        self._write(self.journal.towards(coming.id, now, forced=forced))

    def replace(self, coming: Generation, now: datetime) -> None:
        """Another certificate below the same roots takes over at once: whoever trusts the one trusts the other."""
        with _explained(self._path):
            self._sweep()
            _keep(self._path, coming)
        self._write(Journal(coming.id, now))

    def advance(self, now: datetime, left_behind: tuple[str, ...] = ()) -> None:
        """To the next step."""
        self._write(self.journal.after(left_behind, now))
        if self.journal.step is Step.STEADY:
            with _explained(self._path):
                self._sweep()

    def force(self) -> None:
        """From now on the rotation waits for nobody for long."""
        self._write(replace(self.journal, forced=True))

    def key_problem(self) -> StateError | None:
        """What is wrong with the key that signs, as it is on disk now."""
        try:
            key = self._read(self.journal.signs).key
        except StateError as error:
            return error
        return key if isinstance(key, StateError) else None

    def _write(self, journal: Journal) -> None:
        authority = self._take(journal)
        with _explained(self._path):
            _replace(self._path / JOURNAL, journal.text.encode())
        self.journal, self.authority = journal, authority
        self._publish()

    def _publish(self) -> None:
        """The step has been taken. A rename that a power cut undoes is taken again: no step is a harm twice."""
        with suppress(OSError):
            _replace(self._path / BUNDLE, self.authority.bundle_pem.encode())
            _sync(self._path)

    def _take(self, journal: Journal) -> CertificateAuthority:
        generations = {id_: self.generations.get(id_) or self._read(id_) for id_ in journal.trusted}
        signing = generations[journal.signs]
        roots = dict.fromkeys(root for one in generations.values() for root in one.roots)
        self.generations = generations
        return CertificateAuthority(
            signing.key,
            signing.chain[0],
            intermediates=signing.chain[1:],
            roots=tuple(roots),
            trust_domain=self.trust_domain,
            issuer=journal.signs,
        )

    def _read(self, id_: str) -> Generation:
        found = generation.read(self._path / id_, START_OVER, lost_key=LOST_KEY)
        if found.id != id_:
            raise StateError(str(self._path / id_), "this is not the certificate of this folder", START_OVER)
        return found

    def _check(self, now: datetime) -> None:
        for one in self.generations.values():
            if one.chain[0] in one.roots and (said := trust_domain_of(one.chain[0])) not in ("", self.trust_domain):
                problem = f"the authority is that of the trust domain {said}, not {self.trust_domain}"
                raise StateError(str(self._path), problem, "Keep the trust domain, or choose another state folder")
        signing = self.generations[self.journal.signs].chain[0]
        where, remedy = str(self._path / self.journal.signs), f"Look at the clock. If it is right: {START_OVER}"
        if signing.not_valid_after_utc <= now:
            raise StateError(where, "the certificate of the authority has expired", remedy)
        if now < signing.not_valid_before_utc:
            raise StateError(where, "the certificate of the authority is not valid yet", remedy)

    def _sweep(self) -> None:
        """Removes what no step needs any more, or a start of a rotation has left that did not come to its end."""
        kept = {JOURNAL, BUNDLE, self.journal.current, self.journal.next}
        for path in self._path.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _make(path: Path, first: Generation, now: datetime) -> None:
    """There as a whole or not at all."""
    # Left by a start that did not come to its end.
    new = path.with_name(f"{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _keep(new, first)
    _create(new / JOURNAL, Journal(first.id, now).text.encode())
    _create(new / BUNDLE, first.files[generation.ROOTS])
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _keep(folder: Path, one: Generation) -> None:
    new = folder / f"{one.id}.new"
    new.mkdir(mode=0o700)
    for name, content in one.files.items():
        _create(new / name, content)
    _sync(new)
    new.rename(folder / one.id)
    _sync(folder)


def _create(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    _create(new, content)
    new.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        raise StateError(where, f"the authority cannot be written ({error.strerror})", DISK) from error
