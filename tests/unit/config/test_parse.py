"""Documents as users write them: what they mean, and what a mistake gets."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.config import Parsed, from_json, parse
from mesh.config.kinds import known_kinds
from mesh.errors import ConfigError
from mesh.model.documents import Key, Mesh
from mesh.model.traffic import PolicyTarget, Retry
from mesh.model.workload import HealthType, Locality, Port, Protocol, Stop, Upstream, Workload
from tests.builders import a_document, a_policy, a_workload, documents, workload

COMPLETE = """\
apiVersion: proa.mesh/v1alpha1
kind: Workload
metadata: {name: orders, namespace: bookstore}
spec:
  service: orders
  version: v2
  serviceAccount: clerk
  command: [python, -m, orders]
  workingDirectory: app
  env: {LOG_LEVEL: info}
  ports: [{name: grpc, port: 50051, appProtocol: grpc}]
  health: {type: grpc, service: "", path: /ready, interval: 2s, timeout: 500ms, healthyAfter: 2, unhealthyAfter: 4}
  replicas: 3
  upstreams: [{service: inventory, port: 50051, env: INVENTORY_ADDR}]
  locality: {region: r1, zone: z1}
  stop: {drain: 1m30s, grace: 0s}
"""


def read(*texts: str) -> Parsed:
    return parse("---\n".join(texts), "mesh.yaml", "/shop")


def only_problem(*texts: str) -> str:
    parsed = read(*texts)
    assert parsed.documents == ()
    [problem] = parsed.problems
    return str(problem)


def only_workload(spec: str) -> Workload:
    return workload(documents(a_workload("orders", spec)), "orders")


def test_every_field_of_a_workload_is_understood() -> None:
    [written] = read(COMPLETE).documents

    assert written.key == Key("Workload", "bookstore", "orders")
    assert written.where == "mesh.yaml:1"
    resource = written.resource
    assert isinstance(resource, Workload)
    assert resource.version == "v2"
    assert resource.service_account == "clerk"
    assert resource.command == ("python", "-m", "orders")
    assert resource.working_directory == "/shop/app"
    assert resource.env == (("LOG_LEVEL", "info"),)
    assert resource.ports == (Port("grpc", 50051, Protocol.GRPC),)
    assert (resource.health.interval, resource.health.timeout) == (timedelta(seconds=2), timedelta(milliseconds=500))
    assert (resource.health.healthy_after, resource.health.unhealthy_after) == (2, 4)
    assert resource.health.path == "/ready"
    assert resource.replicas == 3
    assert resource.upstreams == (Upstream("inventory", "bookstore", "inventory", 50051, "INVENTORY_ADDR"),)
    assert resource.locality == Locality("r1", "z1")
    assert resource.stop == Stop(drain=timedelta(seconds=90), grace=timedelta())


def test_what_is_not_said_has_the_documented_default() -> None:
    resource = only_workload("port: 50051")

    assert (resource.service, resource.service_account, resource.version) == ("orders", "orders", "v1")
    assert resource.ports == (Port("grpc", 50051, Protocol.GRPC),)
    assert resource.stop == Stop(drain=timedelta(seconds=5), grace=timedelta(seconds=10))
    assert resource.working_directory == "/shop"


@pytest.mark.parametrize(
    ("ports", "health"),
    [
        pytest.param("port: 1", HealthType.GRPC, id="grpc"),
        pytest.param("ports: [{port: 1, appProtocol: http}, {port: 2}]", HealthType.HTTP, id="http first"),
        pytest.param("ports: [{port: 1, appProtocol: http2}]", HealthType.TCP, id="http2"),
        pytest.param("ports: [{port: 1, appProtocol: tcp}]", HealthType.TCP, id="tcp"),
        pytest.param("ports: []", HealthType.NONE, id="no port"),
        pytest.param("port: 1, health: {type: none}", HealthType.NONE, id="said"),
    ],
)
def test_the_first_port_decides_how_health_is_checked(ports: str, health: HealthType) -> None:
    assert only_workload(ports).health.type is health


def test_ports_without_a_name_are_named_by_their_protocol() -> None:
    ports = only_workload("ports: [{port: 1}, {port: 2}, {port: 3, appProtocol: tcp}, {port: 4, name: x}]").ports

    assert [port.name for port in ports] == ["grpc-1", "grpc-2", "tcp", "x"]


def test_upstreams_of_one_service_have_keys_of_their_own() -> None:
    upstreams = only_workload("upstreams: [{service: a, port: 1}, {service: a, port: 2}, {service: a.far}]").upstreams

    assert [(up.key, up.namespace, up.service, up.port) for up in upstreams] == [
        ("a", "shop", "a", 1),
        ("a:2", "shop", "a", 2),
        ("a.far", "far", "a", None),
    ]


def test_numbers_and_booleans_are_text_where_text_is_wanted() -> None:
    resource = only_workload("env: {A: 2, B: true, C: on, D: 1.10, E: 007, F: ~x}, version: 1")

    assert dict(resource.env) == {"A": "2", "B": "true", "C": "on", "D": "1.10", "E": "007", "F": "~x"}
    assert resource.version == "1"


def test_a_traffic_policy_is_understood() -> None:
    retry = (
        "{numRetries: 3, retryOn: {triggers: [unavailable, reset]}, "
        "perRetry: {timeout: 1s, backOff: {baseInterval: 10ms, maxInterval: 1s}}}"
    )
    targets = "[{kind: Service, name: b, sectionName: grpc}, {kind: Service, group: core, name: a}]"
    [policy] = documents(a_policy("p", f"{{targetRefs: {targets}, retry: {retry}}}")).traffic_policies

    assert policy.targets == (PolicyTarget("a"), PolicyTarget("b", "grpc"))
    assert policy.retry == Retry(
        disabled=None,
        num_retries=3,
        triggers=("reset", "unavailable"),
        per_try_timeout=timedelta(seconds=1),
        base_interval=timedelta(milliseconds=10),
        max_interval=timedelta(seconds=1),
    )


def test_a_traffic_policy_may_say_nothing_of_retries() -> None:
    [policy] = documents(a_policy("p", "{targetRefs: [{kind: Service, name: a}]}")).traffic_policies

    assert policy.retry is None


def test_the_mesh_has_settings_and_a_document_of_it_may_be_empty() -> None:
    spec = "{trustDomain: example.org, certificates: {leafLifetime: 1h}}"

    assert documents(a_document("Mesh", "default", spec, namespace="default")).mesh.trust_domain == "example.org"
    assert documents(a_document("Mesh", "default", spec, namespace="default")).mesh.leaf_lifetime == timedelta(hours=1)
    assert documents(a_document("Mesh", "default", "", namespace="default")).mesh.trust_domain == Mesh().trust_domain


def test_a_stored_document_means_what_it_meant() -> None:
    [written] = read(COMPLETE).documents

    assert from_json(written.json, written.where) == written.resource
    assert json.loads(written.json)["spec"]["workingDirectory"] == "/shop/app"


def test_a_stored_document_that_is_no_longer_understood_says_so() -> None:
    with pytest.raises(ConfigError, match=r"old.yaml:7: unknown field spec.fast"):
        from_json(json.dumps({"apiVersion": "proa.mesh/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"},
                              "spec": {"fast": True}}), "old.yaml:7")  # fmt: skip


def test_what_is_shown_may_be_applied_again() -> None:
    [written] = read(COMPLETE).documents
    [again] = read(COMPLETE + "status: {conditions: [{type: Accepted}]}\n").documents

    assert (again.json, again.resource) == (written.json, written.resource)


def test_one_bad_document_spoils_only_itself() -> None:
    parsed = read(a_workload("a"), "kind: [\n", a_workload("b"), "# nothing\n", a_workload("c", "prot: 1"))

    assert [written.key.name for written in parsed.documents] == ["a", "b"]
    assert [problem.where for problem in parsed.problems] == ["mesh.yaml:7", "mesh.yaml:18"]


def test_all_mistakes_of_a_document_are_told_at_once() -> None:
    problems = read(a_workload("orders", "replicas: many, stop: {drain: 5}")).problems

    assert len(problems) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            a_document("Workloda", "a"),
            "mesh.yaml:2: there is no kind Workloda. Did you mean Workload?",
            id="unknown kind",
        ),
        pytest.param(
            a_document("Zebra", "a"),
            f"mesh.yaml:2: there is no kind Zebra. This version knows {known_kinds()}",
            id="unknown kind, nothing near",
        ),
        pytest.param(
            a_document("Rollout", "a"),
            f"mesh.yaml:2: kind Rollout is not built yet. This version knows {known_kinds()}",
            id="kind not built",
        ),
        pytest.param(
            "a: 1\n",
            f"mesh.yaml:1: the document has no kind. Write `kind:`. This version knows {known_kinds()}",
            id="no kind",
        ),
        pytest.param(
            "- a\n", "mesh.yaml:1: this is no document. Write apiVersion, kind, metadata and spec", id="a list"
        ),
        pytest.param(
            a_workload("a").replace("v1alpha1", "v1"),
            "mesh.yaml:1: apiVersion: 'proa.mesh/v1' is not known. Write 'proa.mesh/v1alpha1'",
            id="other version",
        ),
        pytest.param(
            "kind: Mesh\napiVersion: proa.mesh/v1alpha1\nspec: {}\n",
            "mesh.yaml:1: metadata is missing. Add `metadata:`",
            id="no metadata",
        ),
        pytest.param(
            a_workload("a", "ports: [{port: 1, appProtcol: tcp}]"),
            "mesh.yaml:4: unknown field spec.ports.0.appProtcol. Did you mean appProtocol?",
            id="unknown field in a list",
        ),
        pytest.param(
            a_policy("a", "{targetRefs: [{kind: Service, name: a}], retry: {attempts: 2}}"),
            "mesh.yaml:4: unknown field spec.retry.attempts. Remove it",
            id="unknown field, nothing near",
        ),
        pytest.param(
            a_workload("a", "stop: {drain: 5sec}"),
            "mesh.yaml:4: spec.stop.drain: '5sec' is not a duration. Write for example 250ms, 5s or 1m30s",
            id="wrong unit",
        ),
        pytest.param(
            a_workload("a", "stop: {drain: 5}"),
            "mesh.yaml:4: spec.stop.drain: 5 has no unit. Write for example 5s or 5ms",
            id="no unit",
        ),
        pytest.param(
            a_workload("a", "health: {interval: 0s}"),
            "mesh.yaml:4: spec.health.interval: it must be more than 0s. Give it a length",
            id="no length",
        ),
        pytest.param(
            a_workload("a", "health: {type: ping}"),
            "mesh.yaml:4: spec.health.type: 'ping' is not known. Write 'grpc', 'http', 'tcp' or 'none'",
            id="unknown word",
        ),
        pytest.param(
            a_workload("a", "health: {path: 'a b'}"),
            "mesh.yaml:4: spec.health.path: this is no path. Start it with / and leave out spaces",
            id="bad path",
        ),
        pytest.param(
            a_workload("a", "health: {type: http}"),
            "mesh.yaml:4: spec: health type http needs a port. Give it one, or write `type: none`",
            id="nowhere to ask for health",
        ),
        pytest.param(
            a_workload("Orders"),
            "mesh.yaml:3: metadata.name: 'Orders' is not allowed. Use a-z, 0-9, - and dots, at most 253 characters",
            id="bad name",
        ),
        pytest.param(
            a_workload("a", "env: {A-B: x}"),
            "mesh.yaml:4: spec.env.A-B: 'A-B' is not allowed. Use letters, digits and _, no digit first",
            id="bad variable",
        ),
        pytest.param(
            a_workload("a", "env: {A: [x]}"),
            "mesh.yaml:4: spec.env.A: it must be text. Write a word or put it in quotes",
            id="a list for text",
        ),
        pytest.param(
            a_workload("a", "port: 1, ports: [{port: 2}]"),
            "mesh.yaml:4: spec: both port and ports are given. Keep one",
            id="port and ports",
        ),
        pytest.param(
            a_workload("a", "ports: [{port: 1}, {port: 1, name: x}]"),
            "mesh.yaml:4: spec: port 1 is given twice. Keep one",
            id="port twice",
        ),
        pytest.param(
            a_workload("a", "ports: [{port: 1, targetPort: 5}], replicas: 2"),
            "mesh.yaml:4: spec: targetPort 5 is fixed, but there are 2 replicas. Remove one",
            id="fixed port and replicas",
        ),
        pytest.param(
            a_document("Workload", "a", "{port: 1}"),
            "mesh.yaml:4: spec: without command each port needs to say where the service listens. Give it a targetPort",
            id="no command, no targetPort",
        ),
        pytest.param(
            a_document("Workload", "a", "{command: []}"),
            "mesh.yaml:4: spec.command: command is empty. "
            "Name a program, or leave `command` out when somebody else starts it",
            id="empty command",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: a.b.c}]"),
            "mesh.yaml:4: spec.upstreams.0.service: 'a.b.c' is not a service. Write `service` or `service.namespace`",
            id="upstream with two dots",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: b, env: X}, {service: c, env: X}]"),
            "mesh.yaml:4: spec: variable X is given twice. Keep one",
            id="variable twice",
        ),
        pytest.param(
            a_workload("a.b"),
            "mesh.yaml:3: the name 'a.b' has a dot, so it cannot name the service. Give spec.service",
            id="a dot in the name of a service",
        ),
        pytest.param(
            a_document("Mesh", "prod", namespace="default"),
            "mesh.yaml:3: the mesh is named default, not 'prod'. Change the name",
            id="a second mesh",
        ),
        pytest.param(
            a_document("Mesh", "default"),
            "mesh.yaml:3: the mesh is in no namespace. Leave it out",
            id="a mesh in a namespace",
        ),
        pytest.param(
            a_document("Mesh", "default", "{certificates: {leafLifetime: 5s}}", namespace="default"),
            "mesh.yaml:4: spec.certificates: leafLifetime is too short to renew certificates in time. "
            "Make it 60s or more",
            id="short lifetime",
        ),
        pytest.param(
            a_policy("a", "{targetRefs: [{kind: Service, name: a}], retry: {perRetry: {backOff: {baseInterval: 2s, "
                          "maxInterval: 1s}}}}"),
            "mesh.yaml:4: spec.retry.perRetry.backOff: maxInterval is shorter than baseInterval. Make it longer",
            id="back-off the wrong way round",
        ),
        pytest.param(
            "kind: Mesh\nkind: Mesh\n", "mesh.yaml:2: the key 'kind' is written twice. Keep one of them", id="key twice"
        ),
        pytest.param("? [a]\n: b\n", "mesh.yaml:1: a key must be a word. Write `key: value`", id="a list for a key"),
        pytest.param(
            "a: [b\n",
            "mesh.yaml:2: this is not YAML: expected ',' or ']', but got '<stream end>'. Correct this line",
            id="no yaml",
        ),
        pytest.param(
            "a: \x07\n",
            "mesh.yaml:1: this is not YAML: unacceptable character #x0007: special characters are not allowed. "
            "Correct the text",
            id="a bell",
        ),
    ],
)  # fmt: skip
def test_a_mistake_gets_where_what_and_what_to_do(text: str, message: str) -> None:
    assert only_problem(text) == message


def test_a_few_aliases_cannot_stand_for_billions() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "more than 100000 values" in only_problem("\n".join(["a0: &a0 [x]", *levels]))


@given(st.text())
def test_any_text_is_documents_or_problems(text: str) -> None:
    parse(text, "mesh.yaml", "/shop")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_spec_is_a_workload_or_problems(spec: object) -> None:
    text = json.dumps({"apiVersion": "proa.mesh/v1alpha1", "kind": "Workload", "metadata": {"name": "a"}, "spec": spec})
    parsed = parse(text, "mesh.yaml", "/shop")

    assert bool(parsed.documents) != bool(parsed.problems)


def test_a_file_of_descriptors_is_relative_to_the_document_and_needs_a_port_that_speaks_grpc() -> None:
    [written] = read(a_workload("orders", "port: 1, descriptorSet: gen/orders.binpb")).documents

    assert isinstance(written.resource, Workload)
    assert written.resource.descriptor_set == "/shop/gen/orders.binpb"
    assert from_json(written.json, written.where) == written.resource
    bad = read(a_workload("orders", "ports: [{port: 1, appProtocol: http}], descriptorSet: x"))
    assert "no port speaks it" in str(bad.problems[0])
