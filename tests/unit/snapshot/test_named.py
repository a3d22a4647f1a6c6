"""What is different between two sets of resources."""

from datetime import timedelta

import pytest

from mesh.snapshot.named import PREDECESSORS, Named
from mesh.snapshot.resource import Resource


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
