"""Makes a key and prints it with its request: `python -m mesh.agent.new_key`.

A process of its own, because the library that makes keys would add 9 MB to every agent, for one moment a day.
"""

import asyncio
import json
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh.errors import IdentityError

if TYPE_CHECKING:  # the process that makes a key would import gRPC with it, which takes twice as long as the key
    from mesh.agent.way import Kept


@dataclass(frozen=True, slots=True)
class Made:
    """A private key (PEM), and the request to have it signed (PKCS#10, DER).

    `signature` is that of the request by the key of the certificate from before, b"" when that has ended.
    """

    pem: str = field(repr=False)
    csr: bytes
    signature: bytes = b""


async def made_apart(before: "Kept | None") -> Made:
    """A new key, made by a process that has ended."""
    command = [sys.executable, "-P", "-m", __name__]
    old = json.dumps({"chain": before.chain_pem, "key": before.key_pem} if before else {})
    # In a thread, which ends before the loop does: a child of the loop's own would outlive a caller that is cancelled.
    made_by = partial(subprocess.run, command, input=old.encode(), stdout=subprocess.PIPE, check=False)
    child = await asyncio.to_thread(made_by)
    if child.returncode != 0:
        raise IdentityError("key", f"no key could be made (exit code {child.returncode})", "Look into the agent's log")
    made: dict[str, Any] = json.loads(child.stdout)
    return Made(made["pem"], b64decode(made["csr"]), b64decode(made["signature"]))


def main() -> None:
    from mesh.identity.key import new_key, signature_by

    key, old = new_key(), json.load(sys.stdin)
    signature = signature_by(old["chain"], old["key"], key.csr) if old else b""
    told = {"pem": key.pem, "csr": b64encode(key.csr).decode(), "signature": b64encode(signature).decode()}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
