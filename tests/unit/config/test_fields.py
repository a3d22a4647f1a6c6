"""Durations as users write them and read them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.duration import duration, shown


@pytest.mark.parametrize("text", ["0s", "250ms", "1s500ms", "1m30s", "24h", "99999h"])
def test_a_duration_is_shown_as_it_is_written(text: str) -> None:
    assert shown(duration(text)) == text


@given(st.integers(0, 10**9))
def test_what_is_shown_means_the_same(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)

    assert duration(shown(length)) == length
