"""Regular expressions as Envoy takes them: RE2, and not too large."""

from typing import Any, Final

import re2

MOST: Final = 100
"""Envoy's `re2.max_program_size.error_level`: a larger program is refused."""


def _options(encoding: Any) -> re2.Options:
    options = re2.Options()
    options.encoding = encoding
    options.log_errors = False
    return options


# Envoy 1.40 reads bytes, those before it UTF-8, which makes larger programs of classes such as \pN.
_DIALECTS: Final = tuple(_options(encoding) for encoding in (re2.Options.Encoding.LATIN1, re2.Options.Encoding.UTF8))


def expression(text: str) -> str:
    """`text`, when every Envoy takes it. Raises ValueError."""
    if not text or not text.isascii():
        raise ValueError(f"{text!r} is no regular expression for ASCII text; write one, \\x escapes the rest")
    try:
        size = max(re2.compile(text.encode(), dialect).programsize for dialect in _DIALECTS)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise ValueError(f"{text!r} is not RE2: {reason}; see https://github.com/google/re2/wiki/Syntax") from None
    if size > MOST:
        raise ValueError(f"{text!r} is too large: its RE2 program has {size} steps; simplify it to {MOST} or fewer")
    return text
