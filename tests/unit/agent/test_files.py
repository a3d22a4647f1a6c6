"""What an agent writes: secrets, folders, its log, its plan as it was read."""

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.agent.folders import LONGEST_SOCKET, Folders
from mesh.agent.log import log
from mesh.agent.plan import plan_from
from mesh.agent.sds import write_secrets
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import StartError
from mesh.model.names import InstanceId
from mesh.model.workload import HealthType, Port, Protocol, Stop

ORDERS = InstanceId("shop", "orders", "orders-0")


def write(folder: Path, number: int) -> None:
    write_secrets(folder, chain_pem=f"chain {number}", key_pem=f"key {number}", bundle_pem="roots")


def secret(folder: Path, name: str) -> str:
    return (folder / "current" / f"{name}.json").read_text()


def test_both_secrets_are_where_envoy_looks_for_them(tmp_path: Path) -> None:
    write(tmp_path / "sds", 1)

    (leaf,) = json.loads(secret(tmp_path / "sds", "id"))["resources"]
    (roots,) = json.loads(secret(tmp_path / "sds", "roots"))["resources"]
    assert leaf["tls_certificate"]["private_key"] == {"inline_string": "key 1"}
    assert roots["validation_context"]["trusted_ca"] == {"inline_string": "roots"}


def test_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / "sds", 1)

    kept = [path for path in (tmp_path / "sds").rglob("*") if not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_dir()} == {0o700}


def test_new_secrets_replace_the_old_by_one_link_and_the_last_ones_stay_for_who_reads_them(tmp_path: Path) -> None:
    versions = []
    for number in range(4):
        write(tmp_path, number)
        versions.append(str((tmp_path / "current").readlink()))

    assert len(set(versions)) == 4
    assert "key 3" in secret(tmp_path, "id")
    assert {path.name for path in tmp_path.iterdir()} == {"current", *versions[2:]}


def test_the_same_secrets_again_change_nothing(tmp_path: Path) -> None:
    write(tmp_path, 1)
    before = (tmp_path / "current").lstat().st_mtime_ns

    write(tmp_path, 1)

    assert (tmp_path / "current").lstat().st_mtime_ns == before


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    write(tmp_path, 1)
    version = (tmp_path / "current").readlink()
    (tmp_path / "current").unlink()
    (tmp_path / version / "id.json").write_text("half")
    (tmp_path / "current.new").symlink_to("nowhere")

    write(tmp_path, 1)

    assert "key 1" in secret(tmp_path, "id")
    assert {path.name for path in tmp_path.iterdir()} == {"current", str(version)}


def test_an_instance_has_folders_of_its_own(tmp_path: Path) -> None:
    folders = Folders(tmp_path, tmp_path, ORDERS)
    folders.make()

    assert folders.instance == tmp_path / "instances" / "shop.orders-0"
    assert folders.workload == tmp_path / "workloads" / "shop.orders"
    assert stat.S_IMODE(folders.instance.stat().st_mode) == 0o700


def test_a_bootstrap_is_kept_and_its_change_is_noticed(tmp_path: Path) -> None:
    folders = Folders(tmp_path, tmp_path, ORDERS)
    folders.make()

    assert [folders.keep_bootstrap(text) for text in ("a", "a", "b")] == [True, False, True]
    assert folders.bootstrap.read_text() == "b"
    assert stat.S_IMODE(folders.bootstrap.stat().st_mode) == 0o600
    assert [path.name for path in folders.instance.iterdir()] == ["bootstrap.json"]


def test_instances_of_one_name_in_two_namespaces_have_different_sockets() -> None:
    run = Path("/tmp/proa")

    assert Folders(run, run, ORDERS).admin != Folders(run, run, InstanceId("other", "orders", "orders-0")).admin


def test_a_long_name_does_not_make_a_long_socket() -> None:
    run = Path("/tmp/proa-1000-12345678")

    assert len(str(Folders(run, run, InstanceId("n", "w", "x" * 253)).admin)) <= LONGEST_SOCKET


def test_a_run_folder_without_room_for_a_socket_is_refused() -> None:
    run = Path("/tmp") / ("x" * 90)

    with pytest.raises(StartError, match="ends at 103 bytes"):
        _ = Folders(run, run, ORDERS).admin


def test_a_log_line_is_an_event_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log("service_ended", pid=7, how='exited: "no"', empty="", line="a\nb")

    _, _, fields = capsys.readouterr().err.partition(" ")
    assert fields == 'service_ended pid=7 how="exited: \\"no\\"" empty="" line="a\\nb"\n'


@pytest.mark.parametrize("dangerous", ["\x1b[2J", "\x9b2J", "\u202e", "\u2066", "\u2028", "\x7f", "\udc9b"])
def test_a_log_line_is_no_order_to_a_terminal(capsys: pytest.CaptureFixture[str], dangerous: str) -> None:
    log("envoy_says", what=f"é{dangerous}x")

    _, _, fields = capsys.readouterr().err.partition(" ")
    assert fields.startswith('envoy_says what="é')
    assert fields.rstrip("\n").isprintable()
    assert fields.count("\n") == 1


def test_a_plan_is_read_as_it_was_sent() -> None:
    message = agents_pb2.LaunchPlan(
        command=["python", "-m", "orders"],
        working_directory="/srv",
        env={"B": "2", "A": "1"},
        ports=[
            agents_pb2.PlannedPort(name="grpc", number=50051, protocol=agents_pb2.APP_PROTOCOL_GRPC),
            agents_pb2.PlannedPort(name="raw", number=1, protocol=agents_pb2.APP_PROTOCOL_TCP, target_port=9),
        ],
        upstreams=[agents_pb2.PlannedUpstream(key="stock", env="STOCK")],
        health=agents_pb2.HealthPlan(type="grpc", healthy_after=1, unhealthy_after=3),
        where="mesh.yaml:3",
        generation="g",
    )
    message.drain.FromTimedelta(timedelta(seconds=5))
    message.grace.FromTimedelta(timedelta(seconds=10))
    message.health.interval.FromTimedelta(timedelta(seconds=2))

    plan = plan_from(message)

    assert (plan.command, plan.working_directory) == (("python", "-m", "orders"), Path("/srv"))
    assert plan.env == (("A", "1"), ("B", "2"))
    assert plan.ports == (Port("grpc", 50051, Protocol.GRPC), Port("raw", 1, Protocol.TCP, 9))
    assert plan.upstreams == (("stock", "STOCK"),)
    assert (plan.health.type, plan.health.interval) == (HealthType.GRPC, timedelta(seconds=2))
    assert plan.stop == Stop(timedelta(seconds=5), timedelta(seconds=10))
