"""One notification for any number of readers."""

import asyncio

from mesh.registry.changes import Changes


async def test_a_burst_wakes_a_reader_once_with_the_newest_number():
    changes = Changes()
    reader = asyncio.create_task(changes.after(0))
    await asyncio.sleep(0)

    for _ in range(3):
        changes.notify()

    assert await reader == 3


async def test_a_change_that_came_before_the_wait_is_not_missed():
    changes = Changes()
    changes.notify()

    assert await changes.after(0) == 1


async def test_every_reader_is_woken():
    changes = Changes()
    readers = [asyncio.create_task(changes.after(0)) for _ in range(3)]
    await asyncio.sleep(0)

    changes.notify()

    assert await asyncio.gather(*readers) == [1, 1, 1]


async def test_a_reader_that_has_seen_everything_waits():
    changes = Changes()
    changes.notify()
    reader = asyncio.create_task(changes.after(changes.number))
    await asyncio.sleep(0)
    assert not reader.done()

    changes.notify()

    assert await reader == 2


def test_a_listener_hears_each_change_at_once():
    changes, heard = Changes(), []
    changes.also(lambda: heard.append(changes.number))

    changes.notify()
    changes.notify()

    assert heard == [1, 2]
