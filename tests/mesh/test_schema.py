"""The methods of services in a running mesh, and `proa check`."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from tests.mesh.load import add_stock, connected, outcomes, place_order
from tests.mesh.running import RunningMesh, documents, eventually, soon, workload

pytestmark = pytest.mark.envoy

SERVER = Path(__file__).with_name("shop") / "described.py"


def write(path: Path, *methods: str) -> Path:
    """A file of descriptors of `shop.v1.Shop` with these methods."""
    file = FileDescriptorProto(name="shop.proto", package="shop.v1", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Shop")
    for method in methods:
        service.method.add(name=method, input_type=".shop.v1.Empty", output_type=".shop.v1.Empty")
    path.write_bytes(FileDescriptorSet(file=[file]).SerializeToString())
    return path


def described(name: str, descriptors: Path, **spec: Any) -> dict[str, Any]:
    return workload(name, command=["${python}", str(SERVER), str(descriptors)], port=50051, **spec)


def a_mesh(path: Path, *workloads: dict[str, Any]) -> Path:
    path.write_text(documents(*workloads))
    return path


def methods(mesh: RunningMesh, service: str) -> dict[str, list[str]]:
    """Names of the methods that the mesh knows of `shop.v1.Shop`, with the versions that have them."""
    done = mesh.proa("schema", "get", service, "-o", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["schemas"]
    return {one["name"]: one["versions"] for one in found["methods"] if one["service"] == "shop.v1.Shop"}


def checked(mesh: RunningMesh, expected: int | None = 0) -> dict[str, dict[str, Any]]:
    """What `proa check` finds, by its sentence. `expected` None: whatever else it finds while things start."""
    done = mesh.proa("check", "-o", "json")
    assert expected in (None, done.returncode), done.stdout + done.stderr
    return {one["check"]: one for one in json.loads(done.stdout)["checks"]}


KNOWN = "The methods of every gRPC service are known"
PUSHED = "What was pushed for a service is what it has"
HEALTHY = "Every instance is healthy"
NAMED = "Documents name only what is there"


def test_the_methods_of_the_bookstore_are_known_without_any_work(shared: RunningMesh) -> None:
    def told() -> str:
        done = shared.proa("schema", "get")
        assert done.returncode == 0, done.stderr
        return done.stdout if "OrderService/PlaceOrder" in done.stdout else ""

    printed = eventually(told)
    (row,) = (line for line in printed.splitlines() if "InventoryService/WatchStock " in line)
    assert " ".join(row.split()) == (
        "bookstore/inventory bookstore.inventory.v1.InventoryService/WatchStock server stream no_side_effects - "
        "timeouts.request=5s, timeouts.streamIdle=24h v1"
    )
    assert "grpc.health" not in printed
    assert "bookstore/orders v1: server reflection of orders, for " in printed


def test_a_mesh_is_ready_when_all_methods_are_known(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    """Else the defaults that follow them would come only after the first calls."""
    descriptors = write(tmp_path / "shop.pb", "GetBook")
    slow = launch(a_mesh(tmp_path / "mesh.yaml", described("slow", descriptors, env={"SLOWLY": "1"})))

    assert methods(slow, "slow") == {"GetBook": ["v1"]}


def test_a_mesh_that_is_well_passes_every_check(shared: RunningMesh) -> None:
    """On a busy machine an instance may miss its health checks for a moment."""

    def printed() -> str:
        return shared.proa("check").stdout

    eventually(lambda: {line.split()[0] for line in printed().splitlines()} == {"ok"}, otherwise=printed)


def test_a_new_schema_counts_when_the_service_is_back_and_outlives_the_control_plane(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get")
    mesh = launch(a_mesh(tmp_path / "mesh.yaml", described("shop", descriptors)))
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"]})

    write(descriptors, "Get", "Put")
    os.kill(mesh.instance("shop")["pid"], signal.SIGTERM)
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"], "Put": ["v1"]})

    before = json.loads(mesh.proa("schema", "get", "shop", "-o", "json").stdout)
    control_plane = psutil.Process(mesh.file["control_plane"]["pid"])
    control_plane.kill()
    eventually(lambda: mesh.file["control_plane"]["pid"] not in (None, control_plane.pid))
    eventually(lambda: mesh.proa("schema", "get", "shop").returncode == 0)
    assert json.loads(mesh.proa("schema", "get", "shop", "-o", "json").stdout) == before


async def test_what_the_proto_calls_idempotent_is_tried_again_as_soon_as_it_is_known(
    launch: Callable[..., RunningMesh], bookstore: Callable[..., Path]
) -> None:
    mesh = launch(bookstore(inventory={"env": {"FAIL_EVERY": "3"}}))
    await soon(lambda: "InventoryService/Reserve" in mesh.proa("schema", "get", "inventory").stdout)
    async with (
        connected(mesh.instance("orders")["address"]) as orders,
        connected(mesh.upstream("orders", "inventory")) as inventory,
    ):
        await add_stock(inventory)
        await soon(lambda: all(proxy["state"] == "SYNCED" for proxy in mesh.proxies().values()))

        assert set(await outcomes(place_order(orders), 30)) == {"OK"}


def test_what_only_the_canary_has_is_known_with_who_has_it(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    mesh = launch(
        a_mesh(
            tmp_path / "mesh.yaml",
            described("shop", write(tmp_path / "one.binpb", "Get")),
            described("canary", write(tmp_path / "two.binpb", "Get", "Put"), service="shop", version="v2"),
        )
    )

    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1", "v2"], "Put": ["v2"]})


def test_without_reflection_a_file_or_a_push_serves_and_until_then_there_is_a_warning(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get")
    silent = {"env": {"SILENT": "yes"}}
    mesh = launch(
        a_mesh(
            tmp_path / "mesh.yaml",
            described("silent", descriptors, **silent),
            described("told", descriptors, descriptorSet="shop.binpb", **silent),
        )
    )
    eventually(lambda: methods(mesh, "told") == {"Get": ["v1"]})
    missing = {
        "where": "test/silent",
        "problem": "it does not answer server reflection",
        "remedy": "Switch on server reflection, name a descriptorSet, or use `proa schema push`",
    }
    unknown = {"check": KNOWN, "result": "warning", "findings": [missing]}
    eventually(lambda: checked(mesh, expected=None)[KNOWN] == unknown)
    assert methods(mesh, "silent") == {}

    assert mesh.proa("schema", "push", "silent", str(descriptors)).stdout == "test/silent: 1 method pushed\n"
    assert methods(mesh, "silent") == {"Get": ["v1"]}
    assert checked(mesh)[KNOWN]["result"] == "ok"

    other = write(tmp_path / "other.binpb", "Zap")
    assert mesh.proa("schema", "push", "test/told", str(other), "--version", "v1").returncode == 0
    assert methods(mesh, "told") == {"Zap": ["v1"]}
    assert [one["problem"] for one in checked(mesh)[PUSHED]["findings"]] == [
        "shop.v1.Shop/Get is there, and was not pushed",
        "shop.v1.Shop/Zap was pushed, and is not there",
    ]
    assert mesh.proa("schema", "delete", "told", "--version", "v1").returncode == 0
    assert methods(mesh, "told") == {"Get": ["v1"]}


def test_what_ci_pushes_before_it_is_there_counts_when_it_comes_and_goes_when_it_is_deleted(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get")
    mesh = launch(a_mesh(tmp_path / "mesh.yaml", described("shop", descriptors)))
    push = ("schema", "push", "shop", str(write(tmp_path / "two.binpb", "Get", "Put")), "--version", "v2")

    refused = mesh.proa(*push)
    assert refused.returncode != 0
    assert "it has no version v2. Its versions: v1. Before it is there: --allow-unresolved" in refused.stderr
    assert mesh.proa(*push, "--allow-unresolved").stdout == "test/shop v2: 2 methods pushed\n"
    unknown = mesh.proa("schema", "push", "later", str(descriptors))
    assert unknown.returncode != 0
    assert "default/later: there is no such service. Services: test/shop. Before it is there" in unknown.stderr
    assert mesh.proa("schema", "push", "later", str(descriptors), "--allow-unresolved").stdout == (
        "default/later: 1 method pushed\n"
    )
    assert mesh.proa("schema", "delete", "later").returncode == 0

    silent = described("canary", descriptors, service="shop", version="v2", env={"SILENT": "yes"})
    assert mesh.proa("apply", "-f", "-", text=documents(silent)).returncode == 0
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1", "v2"], "Put": ["v2"]})


def test_a_service_that_stops_telling_keeps_its_methods_and_is_warned_of(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get")
    mesh = launch(a_mesh(tmp_path / "mesh.yaml", described("shop", descriptors)))
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"]})

    silent = described("shop", descriptors, env={"SILENT": "yes"})
    assert mesh.proa("apply", "-f", "-", text=documents(silent)).returncode == 0
    eventually(lambda: checked(mesh, expected=None)[KNOWN]["result"] == "warning")

    (finding,) = checked(mesh, expected=None)[KNOWN]["findings"]
    assert (finding["where"], finding["problem"]) == ("test/shop", "it does not answer server reflection")
    assert methods(mesh, "shop") == {"Get": ["v1"]}
    applied = mesh.proa("apply", "-f", "-", text=documents(a_policy("New")))
    assert applied.returncode == 0, applied.stderr
    assert "service shop does not tell all it has, and method shop.v1.Shop/New is not among" in applied.stderr


def test_a_document_that_names_a_method_is_held_against_the_schema_now_and_later(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get", "Put")
    mesh = launch(a_mesh(tmp_path / "mesh.yaml", described("shop", descriptors)))
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"], "Put": ["v1"]})

    refused = mesh.proa("apply", "-f", "-", text=documents(a_policy("Putt")))
    assert refused.returncode == 2
    assert "Did you mean shop.v1.Shop/Put?" in refused.stderr
    assert mesh.proa("apply", "-f", "-", text=documents(a_policy("Put"))).returncode == 0
    eventually(lambda: checked(mesh, expected=None)[NAMED]["result"] == "ok")

    write(descriptors, "Get")
    os.kill(mesh.instance("shop")["pid"], signal.SIGTERM)
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"]})
    (finding,) = checked(mesh, expected=1)[NAMED]["findings"]
    assert "shop.v1.Shop/Put" in finding["problem"] or "method Put" in finding["problem"]

    write(descriptors, "Get", "Put")
    os.kill(eventually(lambda: mesh.instance("shop")["pid"]), signal.SIGTERM)
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"], "Put": ["v1"]})
    eventually(lambda: mesh.proa("check").returncode == 0)


def a_policy(method: str) -> dict[str, Any]:
    """A policy for one method of `shop.v1.Shop`."""
    methods = [{"method": {"service": "shop.v1.Shop", "method": method}, "timeouts": {"request": "1s"}}]
    return {
        "apiVersion": "proa.mesh/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "slow", "namespace": "test"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "shop"}], "methods": methods},
    }


def test_render_knows_what_the_mesh_knows(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    file = a_mesh(
        tmp_path / "mesh.yaml",
        described("shop", write(tmp_path / "shop.binpb", "Get")),
        workload("caller", command=["sleep", "1000"], upstreams=[{"service": "shop"}]),
    )
    mesh = launch(file)
    eventually(lambda: methods(mesh, "shop") == {"Get": ["v1"]})

    def shown(*command: str) -> str:
        done = mesh.proa(*command, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.dumps(json.loads(done.stdout)["routes"], sort_keys=True)

    rendered = shown("render", "--proxy", "caller", "-f", str(file))
    assert "/shop.v1.Shop/Get" in rendered
    eventually(lambda: shown("debug", "snapshot", "caller-0") == rendered)


def test_a_descriptor_set_that_cannot_be_read_is_said_and_harms_nothing(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    descriptors = write(tmp_path / "shop.binpb", "Get")
    (tmp_path / "garbage").write_bytes(b"hello, world")
    mesh = launch(
        a_mesh(
            tmp_path / "mesh.yaml",
            described("absent", descriptors, descriptorSet="absent.binpb"),
            described("garbage", descriptors, descriptorSet="garbage"),
        )
    )

    def problems() -> dict[str, str]:
        return {one["where"]: one["problem"] for one in checked(mesh, expected=None)[KNOWN]["findings"]}

    expected = {
        "test/absent": f"descriptorSet {tmp_path}/absent.binpb cannot be read: No such file or directory",
        "test/garbage": f"descriptorSet {tmp_path}/garbage cannot be used: it is no protobuf message",
    }
    eventually(lambda: problems() == expected, otherwise=lambda: str(problems()))


def test_what_is_wrong_is_an_error_with_a_remedy(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    broken = workload("broken", command=["${python}", "-c", "raise SystemExit(3)"], port=50051)
    mesh = launch(a_mesh(tmp_path / "mesh.yaml", broken), ready=False)

    def found() -> list[dict[str, str]]:
        done = mesh.proa("check", "-o", "json")
        checks = json.loads(done.stdout)["checks"] if done.returncode == 1 and done.stdout else []
        return [finding for one in checks if one["check"] == HEALTHY for finding in one["findings"]]

    (finding,) = eventually(lambda: [one for one in found() if "exited with code 3" in one["problem"]])
    assert finding["where"] == "test/broken-0"
    assert finding["remedy"] == "Look at `proa logs broken`"
