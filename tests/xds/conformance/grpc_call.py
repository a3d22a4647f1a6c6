"""A gRPC client whose only configuration is an xDS server: run as a process, since that is read once per process.

Calls the health service of the target in the first argument and prints what it says, once for each line on stdin.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 20

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    for line in sys.stdin:
        request = health_pb2.HealthCheckRequest(service=line.strip())
        try:
            answer = stub.Check(request, timeout=SECONDS)
            print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
        except grpc.RpcError as error:
            print(error.code().name, error.details(), flush=True)
