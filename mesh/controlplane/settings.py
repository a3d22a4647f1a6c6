"""What the process of a control plane is started with."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import UsageError
from mesh.model.address import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """`metrics` is None where nobody asks for them.

    `lifeline` is a pipe whose end means that whoever started the control plane has gone; None for no such pipe. `ca` is
    a folder with the files of somebody else's authority; None for one of our own. `listen` is where other machines find
    the API and xDS.
    """

    state: Path
    api: Path
    xds: Address
    metrics: Address | None = None
    lifeline: int | None = None
    ca: Path | None = None
    listen: tuple[Address, ...] = ()


def settings_from(arguments: Sequence[str] | None) -> Settings:
    """From the command line, that of this process for None. Raises UsageError."""
    parser = argparse.ArgumentParser(prog="python -m mesh.controlplane", description="The control plane of a mesh.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="state folder")
    parser.add_argument("--api", required=True, metavar="unix:PATH", help="where the API listens")
    parser.add_argument("--xds", required=True, metavar="HOST:PORT", help="where proxies ask for their configuration")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="where Prometheus asks for metrics; nowhere by default")
    parser.add_argument("--ca", type=Path, metavar="DIR", help="files of an authority: tls.crt, tls.key, ca.crt")
    parser.add_argument(
        "--listen", default="", metavar="HOST:PORT[,..]", help="where other machines find the API and xDS; nowhere"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help="pipe whose end ends this process")
    given = parser.parse_args(arguments)
    if not given.api.startswith("unix:/"):
        raise UsageError("--api", f"{given.api} is not the absolute path of a unix socket", "Write unix:/PATH")
    xds = _address("--xds", given.xds)
    metrics = _address("--metrics", given.metrics) if given.metrics else None
    listen = tuple(_address("--listen", one) for one in given.listen.split(",") if one)
    return Settings(given.state, Path(given.api.removeprefix("unix:")), xds, metrics, given.lifeline, given.ca, listen)


def _address(option: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise UsageError(option, str(error), "Write for example 127.0.0.1:20000") from error
