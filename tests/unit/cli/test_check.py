"""What `proa check` makes of what a mesh says."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import pytest
from typer.testing import CliRunner

from mesh.api.proa.v1 import agents_pb2, documents_pb2, schema_pb2, status_pb2
from mesh.cli.certificates import Certificate
from mesh.cli.check import CHECKS, Finding, Mesh
from mesh.cli.main import app

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_mesh(**parts: Any) -> Mesh:
    """A mesh in which nothing is wrong but `parts`."""
    empty: dict[str, Any] = {"proxies": (), "instances": (), "schemas": (), "documents": (), "certificates": ()}
    return Mesh(at=NOW, **{"version": version("proa"), **empty, **parts})


def found(mesh: Mesh) -> list[tuple[str, bool, Finding]]:
    return [(one.sentence, one.fails, finding) for one in CHECKS for finding in one.findings(mesh)]


def the(mesh: Mesh) -> tuple[str, bool, str]:
    """The only finding: its sentence, whether it fails, and where what is wrong."""
    ((sentence, fails, finding),) = found(mesh)
    assert finding.remedy
    return sentence, fails, f"{finding.where}: {finding.problem}"


def a_proxy(state: int = status_pb2.PROXY_STATE_SYNCED, seconds: int = 60, **fields: Any) -> status_pb2.Proxy:
    since = NOW - timedelta(seconds=seconds)
    return status_pb2.Proxy(node_id="shop/a/a-0", state=state, since=since, **fields)  # type: ignore[arg-type]


def an_instance(attached: bool = True, draining: bool = False, **report: Any) -> status_pb2.Instance:
    message = agents_pb2.InstanceReport(**{"healthy": True, **report})
    return status_pb2.Instance(
        namespace="shop", workload="a", instance="a-0", attached=attached, draining=draining, report=message
    )


def a_document(kind: str, message: str, *, status: bool = False) -> documents_pb2.Document:
    condition = documents_pb2.Condition(type=kind, status=status, reason="TargetNotFound", message=message)
    return documents_pb2.Document(where="mesh.yaml:3", conditions=[condition])


def a_schema(*versions: schema_pb2.VersionSchema, **fields: Any) -> schema_pb2.ServiceSchema:
    return schema_pb2.ServiceSchema(
        **{"namespace": "shop", "service": "a", "grpc": True, "versions": versions, **fields}
    )


def a_certificate(left: timedelta, life: timedelta = timedelta(hours=24)) -> Certificate:
    return Certificate("shop/a-0", NOW + left - life, NOW + left, "Look")


NEWEST, HEALTHY = "Every proxy runs its newest configuration", "Every instance is healthy"
KNOWN, PUSHED = "The methods of every gRPC service are known", "What was pushed for a service is what it has"
VERSIONS = "The control plane and every Envoy are of versions that fit this Proa"
ENDED = "No certificate has expired"
LIFE = "Certificates have more than 30% of their life left"


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        pytest.param(
            lambda: a_mesh(proxies=[a_proxy(status_pb2.PROXY_STATE_NACKED, last_nack="no such\n field.")]),
            (NEWEST, True, "shop/a/a-0: it refuses: no such field"),
            id="refuses",
        ),
        pytest.param(
            lambda: a_mesh(proxies=[a_proxy(status_pb2.PROXY_STATE_PENDING, 12)]),
            (NEWEST, True, "shop/a/a-0: it has not answered for 12 s"),
            id="lags",
        ),
        pytest.param(
            lambda: a_mesh(proxies=[a_proxy(status_pb2.PROXY_STATE_DISCONNECTED)]),
            (NEWEST, True, "shop/a/a-0: it is not connected"),
            id="is away",
        ),
        pytest.param(
            lambda: a_mesh(proxies=[a_proxy(problem="two of one name.")]),
            (NEWEST, True, "shop/a/a-0: its configuration cannot be made: two of one name"),
            id="has no configuration",
        ),
        pytest.param(
            lambda: a_mesh(proxies=[a_proxy(envoy_version="1.35.2")]),
            (VERSIONS, False, "shop/a/a-0: its Envoy is 1.35.2"),
            id="is old",
        ),
        pytest.param(
            lambda: a_mesh(version="0.0.1"),
            (VERSIONS, False, f"the control plane: its Proa is 0.0.1, this one is {version('proa')}"),
            id="is another version",
        ),
        pytest.param(
            lambda: a_mesh(instances=[an_instance(attached=False)]),
            (HEALTHY, True, "shop/a-0: its agent is not connected"),
            id="has no agent",
        ),
        pytest.param(
            lambda: a_mesh(instances=[an_instance(healthy=False, reason="it exited.")]),
            (HEALTHY, True, "shop/a-0: it is not healthy: it exited"),
            id="is ill",
        ),
        pytest.param(
            lambda: a_mesh(instances=[an_instance(exposed=["0.0.0.0:80"])]),
            (
                "Services listen on loopback only",
                False,
                "shop/a-0: its service listens on 0.0.0.0:80, where nothing protects it",
            ),
            id="is exposed",
        ),
        pytest.param(
            lambda: a_mesh(documents=[a_document("ResolvedRefs", "there is no method Gett. Did you mean Get?")]),
            (
                "Documents name only what is there",
                True,
                "mesh.yaml:3: there is no method Gett. Did you mean Get?",
            ),
            id="names what is gone",
        ),
        pytest.param(
            lambda: a_mesh(documents=[a_document("ResolvedRefs", "what it names. Push it.", status=True)]),
            ("The methods that documents name could be checked", False, "mesh.yaml:3: what it names"),
            id="is not checked",
        ),
        pytest.param(
            lambda: a_mesh(documents=[a_document("Accepted", "")]),
            ("No document gives way to another", False, "mesh.yaml:3: TargetNotFound"),
            id="gives way",
        ),
        pytest.param(
            lambda: a_mesh(schemas=[a_schema(schema_pb2.VersionSchema(problems=["no reflection"]))]),
            (KNOWN, False, "shop/a: no reflection"),
            id="tells nothing",
        ),
        pytest.param(
            lambda: a_mesh(schemas=[a_schema(schema_pb2.VersionSchema(problems=["no reflection"], overridden=True))]),
            (KNOWN, False, "shop/a: it has not told its methods yet"),
            id="tells nothing in one version, for which something was pushed",
        ),
        pytest.param(
            lambda: a_mesh(schemas=[a_schema()]),
            (KNOWN, False, "shop/a: it has not told its methods yet"),
            id="has told nothing yet",
        ),
        pytest.param(
            lambda: a_mesh(
                schemas=[a_schema(schema_pb2.VersionSchema(version="v1", differences=["X was pushed"]), complete=True)]
            ),
            (PUSHED, False, "shop/a v1: X was pushed"),
            id="is not what was pushed",
        ),
        pytest.param(
            lambda: a_mesh(certificates=[a_certificate(timedelta(hours=7))]),
            (LIFE, False, "shop/a-0: it ends in 7.0 h"),
            id="was not renewed",
        ),
        pytest.param(
            lambda: a_mesh(certificates=[a_certificate(-timedelta(hours=1))]),
            (ENDED, True, "shop/a-0: it has expired"),
            id="has expired",
        ),
    ],
)
def test_what_is_wrong_is_found(mesh: Callable[[], Mesh], expected: tuple[str, bool, str]) -> None:
    assert the(mesh()) == expected


def test_what_is_only_on_its_way_or_not_of_the_kind_is_not_wrong() -> None:
    mesh = a_mesh(
        proxies=[
            a_proxy(envoy_version="1.40.0"),
            a_proxy(envoy_version="1.36"),
            a_proxy(envoy_version="gRPC Python 1.80"),
            a_proxy(status_pb2.PROXY_STATE_PENDING, 3),
        ],
        instances=[an_instance(), an_instance(draining=True, healthy=False)],
        schemas=[a_schema(complete=True), a_schema(grpc=False)],
        documents=[documents_pb2.Document(conditions=[documents_pb2.Condition(type="Accepted", status=True)])],
        certificates=[a_certificate(timedelta(hours=8)), a_certificate(timedelta(days=300), timedelta(days=999))],
    )

    assert found(mesh) == []


@pytest.mark.parametrize("output", [[], ["-o", "json"]])
def test_a_control_plane_that_does_not_answer_is_an_error_with_a_remedy(output: list[str]) -> None:
    done = CliRunner().invoke(app, ["check", "--server", "unix:/no/such.sock", *output])

    assert done.exit_code == 1
    if output:
        [only] = json.loads(done.stdout)["checks"]
        assert (only["check"], only["result"]) == ("The control plane answers", "error")
        assert only["findings"][0]["remedy"].startswith("Start a mesh")
    else:
        first, second = done.stdout.splitlines()
        assert first == "error   The control plane answers"
        assert "the control plane does not answer. Start a mesh" in second


def test_each_check_is_a_sentence_of_its_own() -> None:
    sentences = [one.sentence for one in CHECKS]

    assert len(set(sentences)) == len(sentences)
    assert all(sentence[0].isupper() and not sentence.endswith(".") for sentence in sentences)
