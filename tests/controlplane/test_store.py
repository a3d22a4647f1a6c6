"""The state file: who may read it, and what is said when it cannot be used."""

import asyncio
import signal
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from mesh.errors import StateError
from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.unit.registry.builders import call, workload


async def test_nobody_but_its_owner_may_read_it(registry, path):
    await registry.apply(call(workload("orders")))

    files = sorted(path.parent.glob("state.db*"))
    assert [file.name for file in files] == ["state.db", "state.db-shm", "state.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def not_a_database(path: Path) -> None:
    path.write_bytes(b"these are not the bytes of a database" * 100)


def damaged(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (id INTEGER PRIMARY KEY, schema INTEGER)")
        connection.execute("INSERT INTO meta VALUES (1, 1)")
        connection.execute("CREATE TABLE filler (text TEXT)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 500,)] * 200)
    connection.close()
    content = bytearray(path.read_bytes())
    content[12_000:20_000] = bytes(8_000)
    path.write_bytes(content)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (id INTEGER PRIMARY KEY, schema INTEGER)")
        connection.execute("INSERT INTO meta VALUES (1, 99)")
    connection.close()


def somebody_elses(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(lambda _: None, id="nothing"),
        pytest.param(Path.touch, id="an empty file"),
        pytest.param(lambda path: sqlite3.connect(path).execute("PRAGMA journal_mode=WAL").close(), id="no table"),
    ],
)
async def test_the_state_of_a_mesh_that_has_begun_is_not_made_anew(path, left):
    left(path)
    before = path.read_bytes() if path.exists() else None

    with pytest.raises(StateError, match=r"it is lost.*Put all of state\.db\* back"):
        await Store.open(path, begins=False)

    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize(
    ("made", "problem", "remedy"),
    [
        pytest.param(not_a_database, "not a database", "--state", id="not a database"),
        pytest.param(damaged, "damaged|malformed", "--state", id="damaged"),
        pytest.param(newer, "another version of Proa", "Use that version", id="newer"),
        pytest.param(somebody_elses, "no such table", "--state", id="somebody else's"),
        pytest.param(a_folder, "cannot be opened: Is a directory", "may read and write", id="a folder"),
    ],
)
async def test_a_file_that_cannot_be_used_is_said_with_what_to_do(path, made, problem, remedy):
    made(path)

    with pytest.raises(StateError, match=problem) as caught:
        await Store.open(path)

    assert caught.value.where == str(path)
    assert remedy in caught.value.remedy


async def test_a_document_that_this_version_does_not_understand_spoils_only_itself(registry, path, clock):
    await registry.apply(call(workload("orders"), workload("catalog")))
    await registry.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET json = replace(json, '50051', '\"new\"') WHERE name = 'orders'")
    connection.close()

    store = await Store.open(path)
    again, problems = await Registry.load(store, now=clock.now, uptime=clock.uptime)

    assert [key.name for key in again.state.applied] == ["catalog"]
    assert [problem.where for problem in problems] == ["mesh.yaml:1"]
    await again.apply(call(workload("orders")))
    await again.close()
    assert sorted(key.name for key in again.state.applied) == ["catalog", "orders"]


APPLIES_FOR_EVER = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.unit.registry.builders import call, workload

async def main():
    store = await Store.open(Path(sys.argv[1]))
    registry, _ = await Registry.load(store, now=lambda: datetime.now(UTC), uptime=timedelta)
    for turn in range(1_000_000):
        await registry.apply(call(*(workload(f"w{n}", f"env: {{TURN: t{turn}}}") for n in range(20))))
        print(turn, flush=True)

asyncio.run(main())
"""


async def test_a_kill_in_the_middle_of_an_apply_leaves_the_old_or_the_new_documents(path, opened):
    for turns in (1, 2, 3):
        writer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", APPLIES_FOR_EVER, str(path)),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
        )
        assert writer.stdout
        for _ in range(turns):
            assert await writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        await writer.communicate()

        found = (await opened()).state.applied.values()

        assert len(found) == 20
        assert len({dict(kept.resource.env)["TURN"] for kept in found}) == 1
