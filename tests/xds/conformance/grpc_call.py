"""A gRPC client whose only configuration is an xDS server: run as a process, since that is read once per process.

Calls the health service of the target in the first argument and prints what it says, once for each line on stdin;
for a line that ends with a number so many times at once, each answer when it is there. Speaks TLS with whom it is told
to.
"""

import sys
from queue import SimpleQueue
from typing import Any

import grpc
from grpc import experimental
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 20

TOLD = grpc.xds_channel_credentials(experimental.insecure_channel_credentials())


def said(call: Any) -> str:
    if call.code() is grpc.StatusCode.OK:
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(call.result().status))
    return f"{call.code().name} {call.details()}"


with grpc.secure_channel(sys.argv[1], TOLD) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    for line in sys.stdin:
        service, _, times = line.strip().partition(" ")
        request, ended = health_pb2.HealthCheckRequest(service=service), SimpleQueue[Any]()
        for _ in range(int(times or 1)):
            calling = stub.Check.future(request, timeout=SECONDS, metadata=[("x-user", "alice")])
            calling.add_done_callback(ended.put)
        for _ in range(int(times or 1)):
            print(said(ended.get()), flush=True)
