"""Every error that Proa shows to a person: where it is, what is wrong, and what to do."""


class MeshError(Exception):
    """Reads `where: problem. remedy`. `where` is file:line, kind/namespace/name, or the thing that failed.

    `exit_code` is what a command ends with: 1 for what failed at run time, 2 for unusable input.
    """

    exit_code = 1

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy


class ConfigError(MeshError):
    """A document the user wrote cannot be used."""

    exit_code = 2


class UsageError(MeshError):
    """A command was called in a way that cannot work."""

    exit_code = 2


class UnresolvedError(ConfigError):
    """A document names something that is not there."""


class SnapshotError(MeshError):
    """A compiled configuration contradicts itself; it is not sent to any proxy."""


class IdentityError(MeshError):
    """A certificate cannot be issued or trusted."""


class AccessError(MeshError):
    """Whoever asks may not do that, or has not proven to be who it says."""


class StateError(MeshError):
    """The state folder cannot be used."""


class StartError(MeshError):
    """A process of the mesh did not start, or did not become ready."""


class UnreachableError(MeshError):
    """The control plane does not answer."""


class NotFoundError(MeshError):
    """What was asked for does not exist."""


class ProtocolError(MeshError):
    """A peer does not keep to the protocol that it speaks."""


class LimitError(MeshError):
    """A peer asks for more than one peer may."""
