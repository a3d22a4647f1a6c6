"""Makes a key and prints it with its request: `python -m mesh.agent.new_key`.

A process of its own, because the library that makes keys would add 9 MB to every agent, for one moment a day.
"""

import asyncio
import json
import subprocess
import sys
from base64 import b64decode, b64encode
from functools import partial
from typing import Any

from mesh.errors import IdentityError


async def made_apart() -> tuple[str, bytes]:
    """A new private key (PEM) and the request to have it signed (PKCS#10, DER), made by a process that has ended."""
    command = [sys.executable, "-P", "-m", __name__]
    # In a thread, which ends before the loop does: a child of the loop's own would outlive a caller that is cancelled.
    made_by = partial(subprocess.run, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    child = await asyncio.to_thread(made_by)
    if child.returncode != 0:
        raise IdentityError("key", f"no key could be made (exit code {child.returncode})", "Look into the agent's log")
    made: dict[str, Any] = json.loads(child.stdout)
    return made["pem"], b64decode(made["csr"])


def main() -> None:
    from mesh.identity.key import new_key

    key = new_key()
    json.dump({"pem": key.pem, "csr": b64encode(key.csr).decode()}, sys.stdout)


if __name__ == "__main__":
    main()
