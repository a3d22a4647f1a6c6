"""What the audit log says of a change, and what it keeps to itself."""

from mesh.registry import audit, operations
from mesh.registry.audit import entries
from mesh.registry.state import State
from tests.unit.registry.builders import NOON, applied, filed, policy, workload


def changes(before: State, after: State) -> list[tuple[str, str]]:
    return [(one.what, one.subject) for one in entries(before, after, NOON, "ann")]


def test_each_document_that_changes_has_an_entry_with_what_was_and_is_there():
    first = filed(State(), workload("orders")).state
    second = applied(first, policy("twice", "orders", 2)).state
    third = applied(second, policy("twice", "orders", 3)).state

    assert changes(State(), first) == [("document created (file)", "Workload/shop/orders")]
    assert changes(first, second) == [("document created (applied)", "BackendTrafficPolicy/shop/twice")]
    (entry,) = entries(second, third, NOON, "ann")
    assert (entry.who, entry.what, entry.at) == ("ann", "document changed (applied)", NOON)
    assert '"numRetries": 2' in entry.old
    assert '"numRetries": 3' in entry.new
    assert changes(third, second) == [("document changed (applied)", "BackendTrafficPolicy/shop/twice")]


def test_what_stays_as_it_is_has_none():
    state = filed(State(), workload("orders")).state
    assert changes(state, filed(state, workload("orders")).state) == []


def test_no_value_of_a_variable_is_told_but_whether_it_has_changed():
    before = filed(State(), workload("orders", "env: {PASSWORD: swordfish, HOME: ann.home}")).state
    after = filed(before, workload("orders", "env: {PASSWORD: sesame, HOME: ann.home, NEW: thing}")).state
    (entry,) = entries(before, after, NOON, "ann")

    assert '"env": {"HOME": "***", "PASSWORD": "***"}' in entry.old
    assert '"env": {"HOME": "***", "NEW": "***", "PASSWORD": "*** (changed)"}' in entry.new
    assert not any(word in entry.old + entry.new for word in ("swordfish", "sesame", "thing", "ann.home"))


def test_a_document_that_goes_is_told_as_it_was():
    before = filed(State(), workload("orders", "env: {PASSWORD: swordfish}")).state
    (entry,) = entries(before, filed(before).state, NOON, "ann")
    assert (entry.what, entry.new) == ("document deleted (file)", "")
    assert "swordfish" not in entry.old


def test_operations_on_workloads_are_told():
    before = filed(State(), workload("orders")).state
    scaled = operations.scale(before, "shop", "orders", 3)
    (entry,) = entries(before, scaled, NOON, "ann")
    assert (entry.what, entry.subject) == ("workload operated", "Workload/shop/orders")
    assert (entry.old, entry.new) == ("", "replicas: 3, restarts: 0")
    (entry,) = entries(scaled, operations.restart(scaled, "shop", "orders"), NOON, "ann")
    assert entry.new == "replicas: 3, restarts: 1"


def test_a_long_document_is_cut():
    state = filed(
        State(), workload("orders", f"command: [{', '.join(['x' * 1000] * 40)}]").replace("command: [serve], ", "")
    ).state
    (entry,) = entries(State(), state, NOON, "ann")
    assert len(entry.new) < audit.LONGEST + 100
    assert entry.new.endswith("characters more)")
