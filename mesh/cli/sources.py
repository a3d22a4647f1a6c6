"""Files named with -f, as the control plane wants them."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mesh.api.proa.v1 import documents_pb2
from mesh.errors import ConfigError, UsageError

SUFFIXES = (".yaml", ".yml", ".json")

LARGEST = 15 * 1024 * 1024
"""Bytes of all files of one call. The control plane takes messages of 16 MiB."""


def source_files(names: Iterable[str]) -> tuple[documents_pb2.SourceFile, ...]:
    """The text of every file, in the order in which they were named; of a folder its YAML and JSON files, sorted.

    Raises UsageError or ConfigError for what cannot be read, and for a file that is named twice.
    """
    files = tuple(file for name in names for file in _files(name))
    if twice := {file.path for file in files if sum(file.path == other.path for other in files) > 1}:
        raise UsageError(min(twice), "this file is named twice", "Name it once")
    if sum(file.ByteSize() for file in files) > LARGEST:
        largest = max(files, key=lambda file: len(file.text))
        raise UsageError(largest.path, f"all files together have more than {LARGEST >> 20} MiB", "Name fewer files")
    return files


def _files(name: str) -> Iterator[documents_pb2.SourceFile]:
    if name == "-":
        yield documents_pb2.SourceFile(path="-", text=_decoded(sys.stdin.buffer.read(), "-"), folder=str(Path.cwd()))
        return
    path = Path(name)
    if not path.is_dir():
        yield _file(path)
        return
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise UsageError(name, "there is no YAML file in this folder", "Name a file, or another folder")
    yield from map(_file, found)


def _file(path: Path) -> documents_pb2.SourceFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise UsageError(str(path), f"this file cannot be read: {reason}", "Name another file") from error
    folder = str(path.absolute().parent)
    return documents_pb2.SourceFile(path=str(path), text=_decoded(content, str(path)), folder=folder)


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}", "this is not UTF-8", "Save the file as UTF-8") from error
