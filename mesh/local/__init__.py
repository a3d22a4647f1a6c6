"""`proa up` on one machine: a supervisor that follows the registry, and the folders it keeps its state in."""
