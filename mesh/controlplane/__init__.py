"""The control plane: one process that wires the registry, the compiler, the API for people and agents, and xDS."""
