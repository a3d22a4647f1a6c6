"""Every rule of the protocol has a row in docs/xds.md, and every test that a row names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def test_every_rule_of_xds_names_tests_that_are_there() -> None:
    rows = ROW.findall((ROOT / "docs" / "xds.md").read_text())
    there = {name for path in (ROOT / "tests").rglob("*.py") for name in TEST.findall(path.read_text())}

    named = {number: set(tests.split(", ")) for number, _, tests in rows}

    assert [int(number) for number, _, _ in rows] == [*range(1, 60)]
    assert {number: missing for number, tests in named.items() if (missing := tests - there)} == {}
