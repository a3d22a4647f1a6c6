"""The folder of a gRPC client without a sidecar: its bootstrap, and its certificate as PEM files."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mesh.agent.private import claim, is_private, keep_private
from mesh.agent.versions import CURRENT, swap_in
from mesh.agent.way import Kept
from mesh.errors import StateError
from mesh.model.address import Address
from mesh.model.names import InstanceId
from mesh.translate.grpc_bootstrap import CERTIFICATE, PRIVATE_KEY, ROOTS, client_of, grpc_bootstrap


@dataclass(frozen=True, slots=True)
class ClientFolder:
    """`path` is absolute."""

    path: Path

    @property
    def bootstrap(self) -> Path:
        return self.path / "bootstrap.json"

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    def claim(self) -> None:
        """Makes the folder and takes it for this process, until that ends.

        Raises StateError when it cannot be used, others may look into it, or another process has it.
        """
        with self._in_use():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = is_private(self.path.resolve())
        if not private:
            remedy = f"Run `chmod 700 {self.path}` if it is yours, or name another folder with --dir"
            raise StateError(
                str(self.path), "others may look into this folder, and a private key is to be in it", remedy
            )
        with self._in_use():
            claimed = claim(self.path)
        if not claimed:
            remedy = "Use what that one keeps there, or name another folder with --dir"
            raise StateError(str(self.path), "another `proa bootstrap` keeps this folder", remedy)

    def client(self, namespace: str, service_account: str) -> InstanceId:
        """The client that the folder is for: programs that have read its bootstrap go on as the same one."""
        with suppress(OSError, ValueError):
            known = client_of(self.bootstrap.read_text())
            if known == InstanceId.of_client(namespace, service_account, known.instance):
                return known
        return InstanceId.of_client(namespace, service_account, secrets.token_hex(4))

    def keep_certificate(self, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None:
        """Raises StateError, as `keep_bootstrap` does, when it cannot be written."""
        with self._in_use():
            swap_in(self.certificates, {CERTIFICATE: chain_pem, PRIVATE_KEY: key_pem, ROOTS: bundle_pem})

    def kept(self) -> Kept | None:
        """The certificate that is there, None without one."""
        folder = self.certificates / CURRENT
        try:
            return Kept(*((folder / name).read_text() for name in (CERTIFICATE, PRIVATE_KEY, ROOTS)))
        except (OSError, ValueError):
            return None

    def keep_bootstrap(self, client: InstanceId, xds: Address) -> bool:
        """Writes the bootstrap, as a whole or not at all; whether it is another one than before."""
        with self._in_use():
            return keep_private(self.bootstrap, grpc_bootstrap(client, xds, str(self.certificates / CURRENT)))

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Names the folder in what the operating system says; of a full disk, that names no file."""
        try:
            yield
        except OSError as error:
            problem = f"the folder cannot be used: {os.strerror(error.errno or 0).lower()}"
            raise StateError(str(self.path), problem, "Mend that, or name another one with --dir") from error
