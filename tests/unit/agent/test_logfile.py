"""The file that gets what a child prints."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from mesh.agent import logfile
from mesh.agent.logfile import last_lines, open_log


def append(path: Path, text: bytes) -> None:
    descriptor = open_log(path)
    os.write(descriptor, text)
    os.close(descriptor)


def test_a_log_is_appended_to_and_for_its_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"

    append(log, b"one\n")
    append(log, b"two\n")

    assert log.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_large_log_is_set_aside_when_it_is_opened(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"old" * logfile.LARGEST)

    append(log, b"new\n")

    assert log.read_text() == "new\n"
    assert (tmp_path / "a.log.1").read_bytes() == (b"old" * logfile.LARGEST)[-logfile.LARGEST :]


async def test_a_log_that_grows_is_emptied_under_whoever_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "LARGEST", 100)
    monkeypatch.setattr(logfile, "LOOK", 0.01)
    log, kept = tmp_path / "a.log", tmp_path / "a.log.1"
    descriptor = open_log(log)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(logfile.keep_short(log, tmp_path / "none"))
        os.write(descriptor, b"first\n" + b"x" * 100)
        async with asyncio.timeout(5):
            while log.stat().st_size:  # noqa: ASYNC110 # a file cannot be awaited
                await asyncio.sleep(0)
        assert kept.exists(), "whoever finds the one empty finds the other"
        os.write(descriptor, b"next\n")
        keeping.cancel()
    os.close(descriptor)

    assert kept.read_bytes() == b"x" * 100
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert log.read_bytes() == b"next\n"
    assert last_lines(log, since=50) == ("next",), "what was printed before the log was emptied does not count"


def test_the_last_line_is_the_last_that_is_not_blank(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"first\nTraceback: \xff\n  cause  \n\n  \n")

    assert last_lines(log, count=1) == ("  cause",)


def test_the_last_line_is_not_one_of_an_earlier_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    append(log, b"earlier\n")

    assert last_lines(log, since=log.stat().st_size) == ()


def test_a_log_that_is_not_there_has_no_last_line(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "a.log") == ()
