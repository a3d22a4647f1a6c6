"""Every promise of docs/security.md names tests, and every test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROOF = re.compile(r"^\| (.+) \| ((?:test_\w+(?:, )?)+) \|$", re.MULTILINE)
TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def test_every_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    _, *promising = page.split("\n## ")
    rows = [line for part in promising if "| test |" in part for line in part.splitlines() if line.startswith("| ")]
    there = {name for path in (ROOT / "tests").rglob("*.py") for name in TEST.findall(path.read_text())}

    proofs = {promise: set(tests.split(", ")) for promise, tests in PROOF.findall(page)}

    assert len(proofs) == len([row for row in rows if not row.endswith("| test |")]), "a row names no test"
    assert len(proofs) > 15
    assert {promise: missing for promise, tests in proofs.items() if (missing := tests - there)} == {}
