"""The authority of a state folder: made once, kept, exchanged step by step, and not used when something is wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import StateError
from mesh.identity import folder as room
from mesh.identity import generation
from mesh.identity.folder import AuthorityFolder
from mesh.identity.journal import Step
from mesh.identity.key import new_key
from mesh.model.names import Identity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDERS = Identity("proa.local", "shop", "orders")
STEPS = (Step.STEADY, Step.TRUST, Step.RENEW, Step.RETIRE)


def opened(path: Path, now: datetime = NOON, trust_domain: str = "proa.local") -> AuthorityFolder:
    return AuthorityFolder.open(path, trust_domain, now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The folder of an authority that was made at noon."""
    opened(tmp_path / "ca")
    return tmp_path / "ca"


def walked(path: Path, step: Step) -> AuthorityFolder:
    """The authority of the folder, in this step of a rotation."""
    it = opened(path)
    if step is not Step.STEADY:
        it.begin(generation.made("proa.local", NOON), NOON)
    while it.journal.step is not step:
        it.advance(NOON)
    return it


def signing(path: Path) -> Path:
    """Where the generation is kept that signs."""
    return path / opened(path).journal.signs


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    first = opened(tmp_path / "ca").authority
    second = opened(tmp_path / "ca", NOON + timedelta(days=1)).authority

    assert first.bundle_pem == second.bundle_pem == (tmp_path / "ca" / "roots.pem").read_text()
    assert second.trust_domain == "proa.local"


@pytest.mark.parametrize("step", STEPS)
def test_nobody_else_may_read_any_of_it(path: Path, step: Step) -> None:
    walked(path, step)

    modes = {(one.is_dir(), one.stat().st_mode & 0o777) for one in (path, *path.rglob("*"))}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_an_empty_folder_and_the_rest_of_a_start_that_broke_off_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca.new").mkdir()
    (tmp_path / "ca.new" / "authority.json").write_text("half")

    opened(tmp_path / "ca")

    assert [one.name for one in tmp_path.iterdir()] == ["ca"]


def test_a_rotation_changes_who_is_trusted_before_who_signs(path: Path) -> None:
    it = opened(path)
    old = it.authority
    it.begin(generation.made("proa.local", NOON), NOON)
    new_root = it.authority.roots[0]

    assert it.authority.issuer == old.issuer
    assert it.authority.roots == (new_root, *old.roots)
    it.advance(NOON)
    assert it.authority.issuer != old.issuer
    assert it.authority.roots == (new_root, *old.roots)
    it.advance(NOON)
    assert it.authority.roots == (new_root,)
    it.advance(NOON)
    assert (it.journal.step, it.authority.roots) == (Step.STEADY, (new_root,))
    assert [one.name for one in path.iterdir() if one.is_dir()] == [it.journal.current], "the old key is gone"


@pytest.mark.parametrize("step", STEPS)
def test_a_restart_finds_the_step_and_the_same_authority(path: Path, step: Step) -> None:
    before = walked(path, step)

    after = opened(path)

    assert after.journal == before.journal
    assert after.authority.issuer == before.authority.issuer
    assert after.authority.bundle_pem == before.authority.bundle_pem == (path / "roots.pem").read_text()
    assert after.authority.issue(new_key().csr, ORDERS, (), NOON).chain_pem


def test_what_a_rotation_is_told_is_kept(path: Path) -> None:
    it = walked(path, Step.TRUST)
    it.force()
    it.advance(NOON, left_behind=("shop/orders/orders-0",))

    journal = opened(path).journal
    assert journal.forced
    assert journal.left_behind == ("shop/orders/orders-0",)
    it.advance(NOON)
    it.advance(NOON)
    assert opened(path).journal.left_behind == ("shop/orders/orders-0",)


class Killed(BaseException):
    """As SIGKILL: nothing of the process goes on."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> Iterator[list[str]]:
    """Within the block the operation on files with this number fails; gives what was done until then."""
    done: list[str] = []

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            done.append(name)
            if len(done) == at + 1:
                raise error
            return work(*args, **options)

        return run

    with monkeypatch.context() as patch:
        for owner, names in ((Path, ("mkdir", "rename", "replace", "unlink")), (room.os, ("open", "fsync"))):
            for name in names:
                patch.setattr(owner, name, counted(name, getattr(owner, name)))
        patch.setattr(room.shutil, "rmtree", counted("rmtree", room.shutil.rmtree))
        yield done


def rotated(path: Path) -> AuthorityFolder:
    it = opened(path)
    while True:
        if it.journal.step is Step.STEADY and it.journal.current != first_of(path):
            return it
        if it.journal.step is Step.STEADY:
            it.begin(generation.made("proa.local", NOON), NOON)
        else:
            it.advance(NOON)


def first_of(path: Path) -> str:
    return (path.parent / "first").read_text()


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")], ids=["kill -9", "full disk"])
def test_a_rotation_that_ends_at_any_operation_is_taken_up_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Every single operation on a file, one after the other, is the last one of the process."""
    (path.parent / "first").write_text(opened(path).journal.current)
    at, ended = 0, False
    while not ended:
        work = path.parent / f"ca{at}"
        copy(path, work)
        with failing(monkeypatch, at, error) as done:
            try:
                rotated(work)
                ended = len(done) <= at
            except (Killed, StateError):
                pass
        again = opened(work)
        assert again.authority.problem is None
        assert again.authority.issue(new_key().csr, ORDERS, (), NOON).chain_pem
        finished = rotated(work)
        assert finished.authority.roots[0].subject != opened(path).authority.roots[0].subject
        at += 1
    assert at > 30


def copy(source: Path, target: Path) -> None:
    for one in [source, *source.rglob("*")]:
        to = target / one.relative_to(source)
        if one.is_dir():
            to.mkdir(mode=0o700)
        else:
            to.write_bytes(one.read_bytes())
            to.chmod(0o600)


def test_a_full_disk_leaves_the_authority_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = opened(path)
    before = it.journal, it.authority
    with (
        failing(monkeypatch, 2, OSError(28, "No space left on device")),
        pytest.raises(StateError, match=r"cannot be written \(No space left on device\).*goes on as it was"),
    ):
        it.begin(generation.made("proa.local", NOON), NOON)

    assert (it.journal, it.authority) == before
    assert opened(path).journal == before[0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda key: key.unlink(), "cannot be read", id="lost"),
        pytest.param(lambda key: key.write_bytes(key.read_bytes()[:100]), "not readable as PEM", id="half-written"),
        pytest.param(lambda key: key.write_text(""), "not readable as PEM", id="empty"),
        pytest.param(lambda key: key.write_bytes(b"\0\xff"), "not readable as PEM", id="other bytes"),
        pytest.param(lambda key: (key.unlink(), key.mkdir()), "cannot be read", id="a folder"),
        pytest.param(lambda key: key.chmod(0o644), "others may read or write.*chmod 600", id="readable for others"),
        pytest.param(lambda key: key.write_text(foreign_key()), "does not belong", id="of another authority"),
    ],
)
def test_without_its_key_an_authority_is_still_trusted_and_says_what_to_do(
    path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    bundle = opened(path).authority.bundle_pem
    spoil(signing(path) / "tls.key")

    it = opened(path)

    assert it.authority.bundle_pem == bundle
    with pytest.raises(StateError, match=words):
        it.authority.issue(new_key().csr, ORDERS, (), NOON)
    assert str(it.key_problem()) == str(it.authority.problem)
    # Another root takes over, and those who trust the old one lose nothing by that.
    it.begin(generation.made("proa.local", NOON), NOON)
    it.advance(NOON)
    assert it.authority.problem is None


def foreign_key() -> str:
    return generation.made("proa.local", NOON).files["tls.key"].decode()


def test_a_key_that_is_lost_while_the_authority_signs_is_told(path: Path) -> None:
    it = opened(path)
    (path / it.journal.signs / "tls.key").unlink()

    assert it.authority.problem is None, "it is in memory"
    assert "tls.key" in str(it.key_problem())


@pytest.mark.parametrize("name", ["tls.crt", "ca.crt"])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.unlink(), id="lost"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:100]), id="half-written"),
        pytest.param(lambda file: file.write_text(foreign_root()), id="of another authority"),
    ],
)
def test_without_its_certificates_there_is_no_authority(path: Path, name: str, spoil: Callable[[Path], object]) -> None:
    spoil(signing(path) / name)
    kept = {one: one.read_bytes() for one in path.rglob("*") if one.is_file()}

    with pytest.raises(StateError, match="Restore it"):
        opened(path)
    assert {one: one.read_bytes() for one in path.rglob("*") if one.is_file()} == kept, "nothing is overwritten"


def foreign_root() -> str:
    return generation.made("proa.local", NOON).files["ca.crt"].decode()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"current": "a", "since": "x", "step": "steady", "next": ""}', '{"step": "fly"}']
)
def test_a_journal_that_is_none_is_refused_and_stays(path: Path, text: str) -> None:
    (path / "authority.json").write_text(text)

    with pytest.raises(StateError, match=r"authority\.json: it is no journal"):
        opened(path)
    assert (path / "authority.json").read_text() == text


def test_a_journal_that_is_lost_is_not_made_anew(path: Path) -> None:
    (path / "authority.json").unlink()

    with pytest.raises(StateError, match=r"authority\.json.*cannot be read"):
        opened(path)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        pytest.param(NOON + timedelta(days=4_000), "has expired. Look at the clock", id="a clock far ahead"),
        pytest.param(NOON - timedelta(hours=1), "is not valid yet. Look at the clock", id="a clock set back"),
    ],
)
def test_an_authority_is_not_used_outside_of_its_time(path: Path, now: datetime, words: str) -> None:
    with pytest.raises(StateError, match=words):
        opened(path, now)


def test_another_trust_domain_is_refused(path: Path) -> None:
    with pytest.raises(StateError, match=r"trust domain proa\.local, not other\.local"):
        opened(path, trust_domain="other.local")


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="cannot be read or made"):
        opened(tmp_path / "file" / "ca")
