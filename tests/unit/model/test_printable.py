"""What a peer says moves no cursor and begins no line, on no terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.printable import printable

ESCAPES = {
    "clears the screen": "\x1b[2J",
    "the same in one character": "\x9b2J",
    "a title": "\x1b]0;all is well\x07",
    "a line": "\r\nINFO all is well",
    "a line of Unicode": "\u2028INFO all is well",
    "writes from right to left": "\u202egnihton",
}


@pytest.mark.parametrize("text", ESCAPES.values(), ids=ESCAPES)
def test_nothing_of_it_is_an_order_to_a_terminal(text: str) -> None:
    said = printable(text, 100)

    assert not any(unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") for one in said)
    assert len(said) == len(text), "each stays where it was"


@given(st.text())
def test_it_has_an_end_and_words_stay_as_they_are(text: str) -> None:
    said = printable(text, 10)

    assert said.isprintable()
    assert len(said) <= 10
    assert said == text[:10] or not text[:10].isprintable()
