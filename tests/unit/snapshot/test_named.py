"""What is different between two sets of resources."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.snapshot.named import PREDECESSORS, Named
from mesh.snapshot.resource import Resource

SECOND = timedelta(seconds=1)


def named(ttl: timedelta | None = None, **versions: str) -> Named:
    return Named((name, Resource(name, "type", b"", version, ttl=ttl)) for name, version in versions.items())


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        pytest.param(named(a="1"), named(a="1"), set(), id="equal"),
        pytest.param(named(a="1"), named(a="2"), {"a"}, id="changed"),
        pytest.param(named(a="1"), named(a="1", b="1"), {"b"}, id="new"),
        pytest.param(named(a="1", b="1"), named(a="1"), {"b"}, id="gone"),
        pytest.param(named(a="1"), named(timedelta(seconds=1), a="1"), {"a"}, id="now with a time to live"),
    ],
)
def test_what_is_new_gone_or_changed_differs(before: Named, now: Named, names: set[str]) -> None:
    assert now.differing(before) == names


def test_two_sets_are_compared_once_and_that_is_forgotten_with_them() -> None:
    now = named(a="2")
    kept = [named(a="1", **{f"n{number}": "1"}) for number in range(PREDECESSORS)]
    found = [now.differing(before) for before in kept]

    assert [now.differing(before) for before in kept] == found
    assert all(now.differing(before) is names for before, names in zip(kept, found, strict=True))
    now.differing(named())
    assert now.differing(kept[0]) is not found[0]


Drawn = dict[str, tuple[str, timedelta | None]]
NAMES = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.sampled_from("12"), st.sampled_from((None, SECOND))))


def one_of(drawn: Drawn) -> Named:
    return Named((name, Resource(name, "type", b"x" * int(v), v, ttl=ttl)) for name, (v, ttl) in drawn.items())


@given(NAMES, NAMES, NAMES, NAMES)
def test_what_is_joined_is_as_if_it_had_been_one_from_the_start(
    one: Drawn, more: Drawn, before: Drawn, more_before: Drawn
) -> None:
    joined = Named.joined(one_of(one), one_of({name: v for name, v in more.items() if name not in one}))
    joined_before = Named.joined(
        one_of(before), one_of({name: v for name, v in more_before.items() if name not in before})
    )
    whole, whole_before = Named(joined), Named(joined_before)

    assert list(joined) == sorted(joined) == list(whole)
    assert (joined.size, joined.total, joined.expiring) == (whole.size, whole.total, whole.expiring)
    assert joined.differing(joined_before) == whole.differing(whole_before)
    assert joined.differing(whole_before) == whole.differing(joined_before)
    assert whole.differing(whole_before) == {
        name
        for name in whole.keys() | whole_before.keys()
        if whole.get(name) != whole_before.get(name)  # the value follows the version
    }


def test_what_is_shared_is_compared_once_for_all_that_share_it() -> None:
    looked_at: list[str] = []

    class Watched(Named):
        def get(self, name: str, default: Any = None) -> Any:
            looked_at.append(name)
            return super().get(name, default)

    shared, shared_before = named(a="2", b="1"), Watched(named(a="1", b="1"))
    found = []
    for number in range(3):
        own = named(**{f"own{number}": "1"})
        found.append((Named.joined(shared, own).differing(Named.joined(shared_before, own)), len(looked_at)))

    assert found == [({"a"}, found[0][1])] * 3
    assert found[0][1] > 0
