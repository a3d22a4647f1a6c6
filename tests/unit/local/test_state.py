"""The folders of a mesh."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mesh.agent.private import write_private
from mesh.errors import StateError
from mesh.local.state import State, held, holder, state_of_run_folder


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """With a short name: sockets are not put into a folder with a long one."""
    with TemporaryDirectory() as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield State.at(tmp_path / "state")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_both_folders_are_private_and_the_run_folder_goes_at_the_end(state: State) -> None:
    with held(state):
        assert mode(state.folder) == mode(state.run) == mode(state.logs) == 0o700
        assert state_of_run_folder(state.run) == state
        (state.run / "api.sock").touch()
        write_private(state.address, "unix:x")
        assert mode(state.address) == 0o600

    assert not state.run.exists()
    assert not state.address.exists()
    assert state.logs.exists()


def test_one_mesh_at_a_time_and_the_second_is_told_who_has_it(state: State) -> None:
    taken = rf"started by process {os.getpid()}\. Stop it with `proa down"
    with held(state):
        assert holder(state) == os.getpid()
        with pytest.raises(StateError, match=taken) as error, held(state):
            pass
        assert state.run.exists(), "the second one must not clean up after the first"
        assert error.value.exit_code == 1

    assert holder(state) is None
    with held(state):
        pass


def test_a_key_that_others_may_read_is_said_at_the_start_and_not_mended_in_silence(state: State) -> None:
    version = state.folder / "instances" / "shop.orders-0" / "sds" / "1"
    with held(state):
        version.mkdir(mode=0o700, parents=True)
        version.parent.chmod(0o700)
        (version.parent / "current").symlink_to("1")
        (version / "id.json").touch(0o600)
    (version / "id.json").chmod(0o640)

    with (
        pytest.raises(StateError, match=r"id\.json: others may read or write it \(mode 0640\)\. Run `chmod go= "),
        held(state),
    ):
        pass
    assert mode(version / "id.json") == 0o640
    assert not state.run.exists()

    (version / "id.json").chmod(0o600)
    with held(state):
        pass


def test_what_a_crash_left_is_gone_at_the_next_start(state: State) -> None:
    crash = f"""
import os
from pathlib import Path
from mesh.local.state import State, held
state = State(Path({str(state.folder)!r}))
with held(state):
    state.address.write_text("old")
    state.mesh_file.write_text("old")
    (state.run / "old.sock").touch()
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", crash], check=False).returncode == 9
    assert (state.run / "old.sock").exists()

    assert holder(state) is None
    with held(state):
        assert not state.address.exists()
        assert not state.mesh_file.exists()
        assert [file.name for file in state.run.iterdir()] == ["state"]


def test_a_folder_without_a_mesh_is_said_to_be_one(state: State) -> None:
    with pytest.raises(StateError, match="there is no mesh in this folder"):
        holder(state)
    with pytest.raises(StateError, match="no mesh runs here"):
        state_of_run_folder(state.run)


def test_an_empty_folder_is_made_private_and_a_full_one_is_refused(state: State) -> None:
    state.folder.mkdir(mode=0o755)
    with held(state):
        assert mode(state.folder) == 0o700

    others = State.at(state.folder.parent / "others")
    others.folder.mkdir()
    others.folder.chmod(0o755)
    (others.folder / "precious").touch()
    with pytest.raises(StateError, match=r"others may look into this folder.*chmod 700"), held(others):
        pass
    assert mode(others.folder) == 0o755


def test_a_state_folder_into_which_others_may_look_or_write_is_refused_at_each_start(state: State) -> None:
    with held(state):
        pass
    state.folder.chmod(0o777)
    with pytest.raises(StateError, match=r"others may look into this folder.*chmod 700"), held(state):
        pass


def test_a_file_in_place_of_the_folder(state: State) -> None:
    state.folder.touch()
    with pytest.raises(StateError, match="this is a file, not a folder"), held(state):
        pass


def test_a_run_folder_that_somebody_else_made_is_refused(state: State) -> None:
    state.run.mkdir()
    state.run.chmod(0o777)
    with pytest.raises(StateError, match="others may look into this folder"), held(state):
        pass
    assert state.run.exists()


def test_a_link_in_place_of_the_run_folder_is_refused(state: State) -> None:
    (state.folder.parent / "elsewhere").mkdir(mode=0o700)
    state.run.symlink_to(state.folder.parent / "elsewhere")
    with pytest.raises(StateError, match="this is not a folder of yours"), held(state):
        pass


def test_a_run_folder_that_appears_while_ours_is_made_is_not_used(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who waits in /tmp for the moment between the look and the making."""
    monkeypatch.setattr("mesh.local.state._forget", lambda state: state.run.mkdir(exist_ok=True))
    with pytest.raises(StateError, match="the folder for sockets cannot be made: file exists"), held(state):
        pass


def test_a_runtime_folder_with_a_long_name_is_not_used(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = state.folder.parent / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))

    assert state.run.parent == Path("/tmp")
    assert len(str(state.api_socket)) < 108


def test_a_runtime_folder_of_somebody_else_is_not_used(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere

    assert state.run.parent == Path("/tmp")


def test_two_state_folders_have_two_run_folders(state: State) -> None:
    assert State.at(state.folder / "..").run != state.run
    assert State.at(state.folder / ".." / "state").run == state.run
