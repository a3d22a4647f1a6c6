"""Proa, a service mesh for gRPC that reads your protos. The distribution and the command are `proa`."""
