"""What is known of methods without a control plane."""

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from mesh.local.known import known_schemas
from mesh.local.state import State
from mesh.model.schema import Method, Schema
from tests.builders import a_workload, documents


def test_a_file_of_descriptors_is_read_and_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    file = FileDescriptorProto(name="a.proto", package="shop.v1")
    file.service.add(name="Orders").method.add(name="Get")
    (tmp_path / "orders.binpb").write_bytes(FileDescriptorSet(file=[file]).SerializeToString())
    mesh = documents(
        a_workload("orders", f"port: 1, descriptorSet: {tmp_path}/orders.binpb"),
        a_workload("stock", f"port: 1, descriptorSet: {tmp_path}/stock.binpb"),
        a_workload("web"),
    )

    schemas = known_schemas(mesh, State.at(tmp_path))

    assert schemas == {("shop", "orders", "v1"): Schema((Method("shop.v1.Orders", "Get"),))}
    assert known_schemas(mesh, None) == schemas
