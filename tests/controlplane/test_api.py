"""The control API over a real channel on its unix socket."""

import asyncio
import json
import stat
from itertools import pairwise

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh.api.proa.v1 import agents_pb2, ca_pb2, ca_pb2_grpc, documents_pb2, status_pb2, tokens_pb2, workloads_pb2
from mesh.identity.key import Key, new_key
from tests.controlplane.conftest import SECONDS, Client
from tests.unit.registry.builders import mesh, policy, workload


def key(kind: str, name: str) -> documents_pb2.DocumentKey:
    return documents_pb2.DocumentKey(kind=kind, namespace="shop", name=name)


async def listed(client: Client, **asked: str) -> dict[str, documents_pb2.Document]:
    response = await client.documents.ListDocuments(documents_pb2.ListDocumentsRequest(**asked))
    return {document.key.name: document for document in response.documents}


async def refused(call: "grpc.aio.UnaryUnaryCall") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_only_its_owner_may_connect(plane):
    assert stat.S_IMODE(plane.settings.api.stat().st_mode) == 0o600
    assert stat.S_IMODE(plane.settings.api.parent.stat().st_mode) == 0o700


async def test_it_answers_health_and_reflection(client):
    health = await health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING

    call = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    services = {service.name for service in (await call.read()).list_services_response.service}
    call.cancel()
    ours = {
        f"proa.v1.{name}Service"
        for name in ("Agent", "Audit", "Ca", "Debug", "Document", "Identity", "Schema", "Status", "Token", "Workload")
    }
    envoys = "envoy.service.status.v3.ClientStatusDiscoveryService"
    assert services == {*ours, envoys, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_documents_are_applied_listed_and_deleted(client):
    await client.start_with(workload("orders"))

    response = await client.apply(workload("orders", "replicas: 2"), policy("retry", "orders"))

    assert response.applied
    assert response.revision == 2
    assert [(c.key.name, c.action, c.shadows_file) for c in response.changes] == [
        ("orders", documents_pb2.CHANGE_ACTION_CREATED, True),
        ("retry", documents_pb2.CHANGE_ACTION_CREATED, False),
    ]
    found = await listed(client)
    assert found["orders"].set == documents_pb2.DOCUMENT_SET_APPLIED
    assert found["orders"].where == "0.yaml:1"
    assert json.loads(found["orders"].json)["spec"]["workingDirectory"] == "/srv"
    assert {c.type: c.status for c in found["retry"].conditions} == {
        "Accepted": True,
        "ResolvedRefs": True,
        "Programmed": True,
    }

    keys = [key("Workload", "orders"), key("BackendTrafficPolicy", "retry")]
    await client.documents.DeleteDocuments(documents_pb2.DeleteDocumentsRequest(keys=keys))
    assert {name: one.set for name, one in (await listed(client)).items()} == {
        "orders": documents_pb2.DOCUMENT_SET_FILE
    }


async def test_documents_are_listed_by_kind_as_people_spell_it_namespace_and_name(client):
    await client.start_with(workload("orders"), workload("catalog"), mesh("shop.example"))

    assert [*await listed(client)] == ["default", "catalog", "orders"]
    assert [*await listed(client, kind="workloads")] == ["catalog", "orders"]
    assert [*await listed(client, kind="workload", namespace="shop", name="orders")] == ["orders"]
    assert [*await listed(client, namespace="elsewhere")] == []
    error = await refused(client.documents.ListDocuments(documents_pb2.ListDocumentsRequest(kind="worklaod")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Did you mean Workload?" in (error.details() or "")


async def test_a_refused_call_says_everything_that_is_wrong_and_applies_nothing(client):
    response = await client.apply(workload("orders"), policy("retry", "ordres"), "kind: Nothing")

    assert not response.applied
    assert [problem.where for problem in response.problems] == ["2.yaml:1", "1.yaml:1"]
    assert not any(problem.warning for problem in response.problems)
    assert await listed(client) == {}


async def test_a_file_set_reports_what_it_left_out_and_what_runs_with_less(client):
    response = await client.start_with(workload("orders", "upstreams: [{service: inventory}]"), "kind: Nothing")

    assert response.left_out == 1
    assert [(problem.where, problem.warning) for problem in response.problems] == [
        ("1.yaml:1", False),
        ("0.yaml:1", True),
    ]
    # It has its address all the same, which answers as soon as inventory is there.
    assert [upstream.key for upstream in (await client.plan()).upstreams] == ["inventory"]


async def test_a_document_says_when_it_gives_way_and_when_its_target_has_gone(client):
    await client.start_with(workload("orders"))
    await client.apply(policy("older", "orders"))
    await client.apply(policy("younger", "orders", retries=3))

    (accepted, resolved, _) = (await listed(client))["younger"].conditions
    assert (accepted.type, accepted.status, accepted.reason) == ("Accepted", False, "Conflicted")
    assert "already set by older" in accepted.message
    assert (resolved.type, resolved.status) == ("ResolvedRefs", True)

    await client.start_with(workload("catalog"))
    (_, resolved, _) = (await listed(client))["older"].conditions
    assert (resolved.type, resolved.status, resolved.reason) == ("ResolvedRefs", False, "TargetNotFound")
    assert "there is no service orders" in resolved.message


async def test_deleting_what_is_not_there_is_not_found(client):
    await client.apply(workload("orders"))

    request = documents_pb2.DeleteDocumentsRequest(keys=[key("Workload", "oders")])

    error = await refused(client.documents.DeleteDocuments(request))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == ("Workload/shop/oders: there is no such applied document. Did you mean shop/orders?")


async def test_workloads_are_watched_scaled_and_restarted(client):
    await client.start_with(workload("orders", "stop: {drain: 2s, grace: 3s}"))
    watch = client.workloads.WatchWorkloads(workloads_pb2.WatchWorkloadsRequest())

    async def wanted() -> workloads_pb2.DesiredWorkload:
        async with asyncio.timeout(SECONDS):
            return (await watch.read()).workloads[0]

    first = await wanted()
    assert (first.namespace, first.name, first.replicas, first.fixed_port) == ("shop", "orders", 1, False)
    assert (first.drain.ToSeconds(), first.grace.ToSeconds(), first.where) == (2, 3, "0.yaml:1")

    request = workloads_pb2.ScaleWorkloadRequest(namespace="shop", name="orders", replicas=3)
    await client.workloads.ScaleWorkload(request)
    scaled = await wanted()
    assert (scaled.replicas, scaled.generation) == (3, first.generation)

    await client.workloads.RestartWorkload(workloads_pb2.RestartWorkloadRequest(namespace="shop", name="orders"))
    restarted = await wanted()
    assert (restarted.replicas, restarted.generation == first.generation) == (3, False)

    await client.start_with(workload("orders", "stop: {drain: 2s, grace: 3s}"))
    assert (await wanted()).replicas == 1
    watch.cancel()


async def test_watchers_hear_only_of_what_concerns_them(client):
    await client.start_with(workload("orders"))
    watch = client.workloads.WatchWorkloads(workloads_pb2.WatchWorkloadsRequest())
    heard = [await watch.read()]

    async with client.attached() as agent:
        await agent.report()
        await client.instances(lambda found: found["orders-0"].report.healthy)
    await client.apply(policy("retry", "orders"))
    await client.apply(workload("orders", "replicas: 2"))
    heard.append(await watch.read())

    assert [response.workloads[0].replicas for response in heard] == [1, 2]
    assert all(one != other for one, other in pairwise(heard))
    watch.cancel()


async def test_a_number_that_cannot_run_is_refused(client):
    await client.start_with(workload("orders"))
    request = workloads_pb2.ScaleWorkloadRequest(namespace="shop", name="orders", replicas=-1)

    error = await refused(client.workloads.ScaleWorkload(request))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_workload_that_is_not_there_is_named_with_the_nearest(client):
    await client.start_with(workload("orders"))

    for call in (
        client.workloads.ScaleWorkload(workloads_pb2.ScaleWorkloadRequest(namespace="shop", name="oders")),
        client.workloads.RestartWorkload(workloads_pb2.RestartWorkloadRequest(namespace="shop", name="oders")),
        client.agents.GetLaunchPlan(agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="oders")),
        client.tokens.CreateToken(tokens_pb2.CreateTokenRequest(namespace="shop", workload="oders")),
    ):
        error = await refused(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "Did you mean shop/orders?" in (error.details() or "")


async def test_before_the_first_document_there_is_no_authority_and_nothing_makes_one(client, tmp_path):
    authority = ca_pb2_grpc.CaServiceStub(client.channel)
    for call in (
        client.tokens.CreateToken(tokens_pb2.CreateTokenRequest(role="viewer")),
        authority.RotateRoot(ca_pb2.RotateRootRequest()),
    ):
        error = await refused(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "it has no document yet" in (error.details() or "")
    assert not (tmp_path / "ca").exists()


async def test_a_launch_plan_says_all_that_an_agent_needs(client):
    spec = "replicas: 1, env: {A: b}, version: v2, serviceAccount: teller, upstreams: [{service: inventory, env: INV}]"
    await client.start_with(workload("orders", spec), workload("inventory"))

    plan = await client.plan()

    assert list(plan.command) == ["serve"]
    assert dict(plan.env) == {"A": "b"}
    assert [(port.name, port.number, port.protocol) for port in plan.ports] == [
        ("grpc", 50051, agents_pb2.APP_PROTOCOL_GRPC)
    ]
    assert [(upstream.key, upstream.env) for upstream in plan.upstreams] == [("inventory", "INV")]
    assert (plan.health.type, plan.health.interval.ToSeconds(), plan.health.unhealthy_after) == ("grpc", 1, 3)
    assert (plan.identity, plan.service, plan.where) == ("spiffe://proa.local/ns/shop/sa/teller", "orders", "0.yaml:1")
    watch = client.workloads.WatchWorkloads(workloads_pb2.WatchWorkloadsRequest())
    assert plan.generation == (await watch.read()).workloads[-1].generation
    watch.cancel()


async def test_a_certificate_has_the_identity_of_the_workload_and_the_lifetime_of_the_mesh(client):
    short = mesh("shop.example").replace("spec: {", "spec: {certificates: {leafLifetime: 1h}, ")
    await client.start_with(short, workload("orders", "serviceAccount: teller"))

    response = await client.signed(new_key(), namespace="shop", workload="orders")

    leaf = x509.load_pem_x509_certificate(response.chain_pem.encode())
    root = x509.load_pem_x509_certificate(response.bundle_pem.encode())
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://shop.example/ns/shop/sa/teller"]
    hours = (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() / 3600
    assert 1.0 <= hours < 1.2
    assert response.renew_at.ToSeconds() < response.not_after.ToSeconds()


async def test_a_request_that_cannot_be_signed_is_refused(client):
    await client.start_with(workload("orders"))

    error = await refused(client.signed(Key("", b"nonsense"), namespace="shop", workload="orders"))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_instances_watchers_are_told_so_at_once(client):
    assert await client.instances() == {}
    assert (await client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies == []


async def test_concurrent_calls_all_count(client):
    await asyncio.gather(*(client.apply(workload(f"w{n}")) for n in range(20)))

    assert len(await listed(client)) == 20
