"""A gRPC client whose only configuration is an xDS server: run as a process, since that is read once per process.

Calls the health service of the target in the first argument and prints what it says, once for each line on stdin.
Speaks TLS with whom it is told to.
"""

import sys

import grpc
from grpc import experimental
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 20

TOLD = grpc.xds_channel_credentials(experimental.insecure_channel_credentials())

with grpc.secure_channel(sys.argv[1], TOLD) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    for line in sys.stdin:
        request = health_pb2.HealthCheckRequest(service=line.strip())
        try:
            answer = stub.Check(request, timeout=SECONDS, metadata=[("x-user", "alice")])
            print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
        except grpc.RpcError as error:
            print(error.code().name, error.details(), flush=True)
