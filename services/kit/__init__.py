"""What the reference systems share, so that a service is only its business: `from kit import run, serve, connect`.

Knows gRPC and SQLite, nothing of the mesh and nothing of books. A service in any language may do without it; what a
service must do for the mesh is in `server` and `deadline`, and it is what any gRPC service should do.
"""

from kit.client import connect
from kit.database import Database, Transaction
from kit.process import run
from kit.server import serve
from kit.settings import Settings

__all__ = ["Database", "Settings", "Transaction", "connect", "run", "serve"]
