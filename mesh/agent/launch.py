"""How the service is started: its arguments, folder and environment, and whether that can work at all."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.agent.addresses import Addresses
from mesh.agent.plan import Plan
from mesh.agent.ports import holder, is_free
from mesh.agent.variables import filled, given_environment, variables_for
from mesh.errors import StartError


@dataclass(frozen=True, slots=True)
class Launch:
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]


def launch_for(plan: Plan, addresses: Addresses, *, inherited: Mapping[str, str], python: str, state: str) -> Launch:
    """Pure. The document's `env` wins over what every service gets, and that over what is inherited.

    Raises StartError for a variable that is unknown.
    """
    variables = variables_for(plan, addresses, python=python, state=state)
    written = {name: filled(value, variables, plan.where) for name, value in plan.env}
    return Launch(
        argv=tuple(filled(word, variables, plan.where) for word in plan.command),
        cwd=plan.working_directory,
        env={**_with_python(inherited, python), **given_environment(plan, addresses), **written},
    )


def check(launch: Launch, plan: Plan, *, free: Callable[[int], bool] = is_free) -> None:
    """Raises StartError for what can be seen beforehand: no folder, no command, a fixed port that is taken."""
    _check_folder(launch, plan.where)
    _check_command(launch, plan.where)
    for port in plan.ports:
        if port.target_port and not free(port.target_port):
            who = holder(port.target_port) or "another program"
            raise StartError(
                plan.where,
                f"`targetPort: {port.target_port}` is in use by {who}",
                "End it, choose another port, or leave `targetPort` out and let the service listen on $PORT",
            )


def _with_python(inherited: Mapping[str, str], python: str) -> dict[str, str]:
    """Whoever calls `proa` by its path, its environment not activated, means that environment's `python`, too."""
    if "VIRTUAL_ENV" in inherited:
        return dict(inherited)
    return {**inherited, "PATH": os.pathsep.join([str(Path(python).parent), inherited.get("PATH", os.defpath)])}


def _check_folder(launch: Launch, where: str) -> None:
    if not launch.cwd.is_dir():
        raise StartError(
            where,
            f"there is no folder {launch.cwd}",
            "Make it, or change `workingDirectory:`, which is relative to the file",
        )


def _check_command(launch: Launch, where: str) -> None:
    program = launch.argv[0]
    if "/" not in program:
        if not shutil.which(program, path=launch.env.get("PATH", os.defpath)):
            words = f"Write each word by itself: [{', '.join(program.split())}]"
            remedy = words if " " in program else "Install it, or correct `command:`"
            raise StartError(where, f"there is no command `{program}` on the PATH", remedy)
        return
    path = launch.cwd / program
    if not path.is_file():
        raise StartError(
            where, f"there is no program {path}", "Correct `command:`; it is relative to `workingDirectory:`"
        )
    if not os.access(path, os.X_OK):
        raise StartError(where, f"{path} may not be executed", f"Allow it: chmod +x {path}")
