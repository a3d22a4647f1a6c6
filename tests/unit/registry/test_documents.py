"""What a call does to the documents of the mesh."""

from dataclasses import replace

import pytest

from mesh.config import parse
from mesh.errors import NotFoundError
from mesh.model.documents import Key
from mesh.registry import documents
from mesh.registry.documents import Action, Outcome, together
from mesh.registry.state import Operation, State
from tests.unit.registry.builders import LATER, NOON, applied, call, filed, mesh, policy, workload

ORDERS = Key("Workload", "shop", "orders")
RETRY = Key("BackendTrafficPolicy", "shop", "retry")


def actions(outcome: Outcome) -> dict[str, Action]:
    return {change.key.name: change.action for change in outcome.changes}


def test_applied_documents_are_in_force_in_a_new_revision():
    outcome = applied(State(), workload("orders"), policy("retry", "orders"))

    assert actions(outcome) == {"orders": Action.CREATED, "retry": Action.CREATED}
    assert outcome.state.revision == 1
    assert [one.name for one in outcome.state.documents().workloads] == ["orders"]


def test_an_applied_document_that_is_the_same_makes_no_new_revision():
    before = applied(State(), workload("orders")).state

    outcome = applied(before, workload("orders"), now=LATER)

    assert actions(outcome) == {"orders": Action.UNCHANGED}
    assert outcome.state == before


def test_a_document_that_only_moved_in_its_file_keeps_its_revision_and_knows_its_new_place():
    before = applied(State(), workload("orders")).state

    outcome = applied(before, "\n\n" + workload("orders"))

    assert actions(outcome) == {"orders": Action.UNCHANGED}
    assert outcome.state.revision == before.revision
    assert outcome.state.documents().workloads[0].where != before.documents().workloads[0].where


def test_a_changed_document_keeps_the_age_of_the_first():
    before = applied(State(), workload("orders"), policy("retry", "orders")).state

    outcome = applied(before, policy("retry", "orders", retries=4), now=LATER)

    assert actions(outcome) == {"retry": Action.CONFIGURED}
    assert outcome.state.revision == 2
    assert outcome.state.documents().traffic_policies[0].created.startswith("2030-01-01T12:00:00")


def test_one_problem_keeps_the_whole_call_out_and_all_problems_are_told():
    outcome = applied(State(), workload("orders"), workload("Bad Name"), policy("retry", "ordres"))

    assert outcome.state == State()
    assert outcome.changes == ()
    assert [problem.where for problem in outcome.problems] == ["applied.yaml:8", "applied.yaml:11"]
    assert "Did you mean orders?" in str(outcome.problems[1])


def test_references_are_judged_by_what_is_in_force_after_the_call():
    state = filed(State(), workload("inventory")).state

    outcome = applied(state, policy("retry", "inventory"), workload("orders", "upstreams: [{service: inventory}]"))

    assert outcome.problems == ()


def test_references_of_other_documents_are_not_judged():
    state = filed(State(), workload("orders", "upstreams: [{service: gone}]")).state

    assert applied(state, workload("inventory")).problems == ()


def test_a_name_that_is_there_twice_in_one_call_is_a_problem_that_names_both_places():
    both = together([parse(workload("orders"), name, "/srv") for name in ("a.yaml", "b.yaml")])

    outcome = documents.apply(State(), both, LATER)

    assert [str(problem) for problem in outcome.problems] == [
        "b.yaml:1: Workload/shop/orders is already at a.yaml:1. Rename or remove one of the two"
    ]


def test_of_two_policies_that_disagree_the_younger_is_applied_with_a_warning():
    state = applied(State(), workload("orders"), policy("a", "orders")).state

    outcome = applied(state, policy("b", "orders", retries=3), path="b.yaml", now=LATER)

    assert outcome.problems == ()
    assert [warning.where for warning in outcome.warnings] == ["b.yaml:1"]


def test_an_applied_document_wins_over_the_one_of_the_file_set_until_it_is_deleted():
    state = filed(State(), workload("orders", "replicas: 1")).state

    state = (outcome := applied(state, workload("orders", "replicas: 3"))).state
    assert outcome.changes[0].shadows_file
    assert state.documents().workloads[0].replicas == 3

    state = (outcome := documents.delete(state, [ORDERS])).state
    assert actions(outcome) == {"orders": Action.DELETED}
    assert state.documents().workloads[0].replicas == 1


def test_the_file_set_is_replaced_as_a_whole():
    before = filed(State(), workload("orders"), workload("inventory"), workload("catalog")).state

    outcome = filed(before, workload("orders"), workload("inventory", "replicas: 2"), workload("web"))

    assert actions(outcome) == {
        "catalog": Action.DELETED,
        "inventory": Action.CONFIGURED,
        "orders": Action.UNCHANGED,
        "web": Action.CREATED,
    }
    assert outcome.state.revision == before.revision + 1


def test_the_same_file_set_makes_no_new_revision():
    before = filed(State(), workload("orders")).state

    assert filed(before, workload("orders")).state == before


def test_a_bad_document_is_left_out_of_the_file_set_and_counted_once():
    outcome = filed(State(), workload("orders"), workload("Bad Name", "relicas: 2"), policy("retry", "inventry"))

    assert [one.name for one in outcome.state.documents().workloads] == ["orders"]
    assert outcome.state.documents().traffic_policies == ()
    assert outcome.left_out == 2
    assert len(outcome.problems) == 3


def test_a_name_that_is_there_twice_in_the_file_set_leaves_the_second_out():
    outcome = filed(State(), workload("orders", "replicas: 1"), workload("orders", "replicas: 2"))

    assert outcome.state.documents().workloads[0].replicas == 1
    assert outcome.left_out == 1


def test_a_workload_runs_without_an_upstream_that_is_not_there():
    outcome = filed(State(), workload("inventory"), workload("orders", "upstreams: [{service: inventry}]"))

    assert [one.name for one in outcome.state.documents().workloads] == ["inventory", "orders"]
    assert outcome.problems == ()
    assert outcome.left_out == 0
    assert "Did you mean inventory?" in str(outcome.warnings[0])


def test_what_the_file_set_says_beside_applied_documents_is_told():
    state = applied(State(), workload("orders")).state

    outcome = filed(state, workload("orders", "replicas: 2"), workload("inventory"))

    assert {change.key.name: change.shadows_file for change in outcome.changes} == {"inventory": False, "orders": True}


def test_deleting_what_was_not_applied_changes_nothing():
    state = applied(State(), workload("orders")).state

    with pytest.raises(NotFoundError, match="Did you mean shop/orders"):
        documents.delete(state, [ORDERS, replace(ORDERS, name="ordrs")])


def test_a_document_of_the_file_set_cannot_be_deleted():
    state = filed(State(), workload("orders")).state

    with pytest.raises(NotFoundError, match=r"it comes from mesh\.yaml:1"):
        documents.delete(state, [ORDERS])


def test_a_scaled_workload_keeps_its_number_until_its_document_changes():
    state = replace(applied(State(), workload("orders")).state, operations={ORDERS: Operation(replicas=3, restarts=1)})

    assert applied(state, workload("inventory")).state.operations[ORDERS].replicas == 3
    assert applied(state, workload("orders", "replicas: 2")).state.operations == {ORDERS: Operation(restarts=1)}
    assert documents.delete(state, [ORDERS]).state.operations == {ORDERS: Operation(restarts=1)}


def test_a_new_file_set_ends_all_scaling():
    state = filed(State(), workload("orders")).state
    state = replace(state, operations={ORDERS: Operation(replicas=3)})

    assert filed(state, workload("orders")).state.operations == {}


def test_the_first_documents_settle_the_trust_domain():
    assert filed(State(), workload("orders")).state.trust_domain == "proa.local"
    assert filed(State(), mesh("shop.example"), workload("orders")).state.trust_domain == "shop.example"
    assert filed(State()).state.trust_domain == ""


def test_another_trust_domain_is_refused_with_what_to_do():
    state = filed(State(), mesh("shop.example")).state

    (problem,) = applied(state, mesh("other.example")).problems
    assert "trustDomain is other.example" in problem.problem
    assert "trustDomain: shop.example" in problem.remedy

    outcome = filed(state, mesh("other.example"), workload("orders"))
    assert outcome.left_out == 1
    assert outcome.state.documents().mesh.trust_domain == "shop.example"


def test_the_settled_trust_domain_stays_when_the_mesh_document_goes():
    state = filed(State(), mesh("shop.example")).state

    assert filed(state, workload("orders")).state.documents().mesh.trust_domain == "shop.example"


def test_the_order_of_files_and_documents_does_not_matter():
    one, other = call(workload("a"), workload("b")), call(workload("b"), workload("a"))

    assert documents.replace_file_set(documents.replace_file_set(State(), one, LATER).state, other, LATER).changes == (
        documents.Change(Key("Workload", "shop", "a"), Action.UNCHANGED),
        documents.Change(Key("Workload", "shop", "b"), Action.UNCHANGED),
    )


ROUTE = (
    "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: canary, namespace: shop}\n"
    'spec: {parentRefs: [{group: "", kind: Service, name: orders}], rules: [{backendRefs: [%s]}]}\n'
)
TO_ORDERS, TO_GONE = "{name: orders, port: 50051}", "{name: ordres, port: 50051}"


def test_a_route_that_names_what_is_not_there_is_refused_unless_that_is_allowed():
    state = applied(State(), workload()).state

    refused = applied(state, ROUTE % TO_GONE)
    allowed = documents.apply(state, call(ROUTE % TO_GONE), NOON, allow_unresolved=True)

    assert [error.remedy for error in refused.problems] == ["Did you mean orders?"]
    assert (allowed.problems, [error.remedy for error in allowed.warnings]) == ((), ["Did you mean orders?"])
    assert [route.name for route in allowed.state.documents().routes] == ["canary"]


def test_a_route_is_as_old_as_its_name():
    first = applied(State(), workload(), ROUTE % TO_ORDERS, now=NOON).state
    changed = applied(first, ROUTE % f"{TO_ORDERS}, {TO_ORDERS}", now=LATER).state

    assert [route.created for route in changed.documents().routes] == [NOON.isoformat(timespec="microseconds")]


def test_what_a_route_does_unexpectedly_is_told():
    [warning] = applied(State(), workload(), ROUTE % "").warnings

    assert warning.problem == "rules.0: there are no backendRefs, so the calls that fit get UNAVAILABLE"


def test_a_route_of_the_file_set_that_leads_nowhere_is_left_out():
    outcome = filed(State(), workload(), ROUTE % TO_GONE)

    assert (outcome.left_out, [error.remedy for error in outcome.problems]) == (1, ["Did you mean orders?"])
