"""Tokens as text: what a signature holds together, and what is refused without looking anything up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import AccessError
from mesh.identity.token import LONGEST, Claims, read, signed

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = b"k" * 32
CLAIMS = Claims("a1b2", NOON + timedelta(hours=1), "shop", "orders")


def test_a_token_says_what_was_signed():
    assert read(signed(CLAIMS, KEY), KEY, NOON) == CLAIMS
    assert CLAIMS.subject == "shop/orders"
    assert Claims("x", NOON, role="viewer").subject == "role viewer"


def test_a_token_with_white_space_around_it_is_the_same():
    assert read(f" {signed(CLAIMS, KEY)}\n", KEY, NOON) == CLAIMS


def test_an_expired_token_is_refused_by_its_name():
    with pytest.raises(AccessError, match=r"token a1b2: it has expired"):
        read(signed(CLAIMS, KEY), KEY, CLAIMS.expires)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("proa1..", id="empty parts"),
        pytest.param("proa1.e30.e30.e30", id="four parts"),
        pytest.param("proa1.é.ü", id="no ASCII"),
        pytest.param("proa1.e30.!!!", id="no base64"),
        pytest.param(signed(replace(CLAIMS, namespace="x" * LONGEST), KEY), id="too long"),
        pytest.param(signed(CLAIMS, b"another" * 4), id="another mesh's"),
        pytest.param(signed(CLAIMS, KEY).replace("proa1", "proa2"), id="another version"),
    ],
)
def test_what_was_not_signed_here_is_no_token_and_its_text_is_not_repeated(text):
    with pytest.raises(AccessError, match="this is no token of this mesh") as caught:
        read(text, KEY, NOON)
    assert len(text) < 8 or text not in str(caught.value)


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data):
    text = signed(CLAIMS, KEY)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda one: one != text[at]))
    changed = text[:at] + other + text[at + 1 :]
    try:
        assert read(changed, KEY, NOON) == CLAIMS  # the last character of base64 has bits that mean nothing
    except AccessError:
        pass
