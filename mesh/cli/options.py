"""Options that commands share."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesh.errors import UsageError
from mesh.model.duration import duration


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class ConfigFormat(StrEnum):
    """Of what is no table."""

    JSON = Format.JSON
    YAML = Format.YAML


# readable=False: whether the folder can be used is told by whoever uses it, with what to do.
StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Folder of the mesh (.proa).", readable=False)
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="ADDRESS", help="Control API, unix:/path or host:port.")
]
ConfigOutputOption = Annotated[ConfigFormat, typer.Option("--output", "-o", help="How to print it.")]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print the answer.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Only this namespace.")
]
AllNamespacesOption = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Every namespace; so it is without -n.")
]
OfNamespaceOption = Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Its namespace.")]
TokenOption = Annotated[
    Path | None, typer.Option("--token", metavar="FILE", help="For the first certificate by TCP.", readable=False)
]
FilesOption = Annotated[
    list[str], typer.Option("--file", "-f", metavar="FILE|DIR|-", help="YAML file, folder of them, or - ; repeatable.")
]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")]


def duration_of(text: str, option: str = "--timeout") -> timedelta:
    """Raises UsageError for anything but `250ms`, `5s`, `1m30s`."""
    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(option, str(error), f"Write for example {option} 60s") from None
