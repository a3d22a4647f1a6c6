"""Single files of descriptors, as server reflection tells them."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, ServiceOptions

import mesh.model.descriptors
from mesh.model.descriptors import file_of, packed, with_services
from mesh.model.wire_format import Splitter, len_field
from tests.unit.model.test_descriptors import a_file


def test_a_file_that_could_be_read_can_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    file = a_file(Orders=["Get"], Stock=["Watch"]).SerializeToString()
    monkeypatch.setattr(mesh.model.descriptors, "MOST_FIELDS", 8)  # name, package, services; name and method of each

    assert len(with_services(file_of(file, Splitter(8)), [])) < len(file)
    with pytest.raises(ValueError, match="too many"):
        file_of(file, Splitter(7))


def test_a_file_knows_its_services_and_imports() -> None:
    file = a_file(Orders=["Get"], Stock=["Watch"])
    file.dependency.extend(["google/api/http.proto", ""])

    found = file_of(file.SerializeToString(), Splitter(100))

    assert (found.name, found.dependencies) == ("shop.proto", ("google/api/http.proto",))
    assert found.services == ("shop.v1.Orders", "shop.v1.Stock")


@pytest.mark.parametrize("content", [b"", b"garbage", len_field(2, b"package without a name")])
def test_bytes_that_are_no_file_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no"):
        file_of(content, Splitter(100))


def test_services_that_are_not_wanted_are_taken_out_and_nothing_else() -> None:
    file = a_file(Orders=["Get"], Stock=["Watch"])
    file.message_type.add(name="Order")
    file.service[1].options.CopyFrom(ServiceOptions(deprecated=True))

    kept = FileDescriptorProto.FromString(
        with_services(file_of(file.SerializeToString(), Splitter(100)), ["shop.v1.Stock"])
    )

    del file.service[0]
    assert kept == file


def test_equal_files_are_packed_to_equal_bytes() -> None:
    one, other = (("a.proto", a_file("a.proto").SerializeToString()), ("b.proto", b""))

    assert packed([one, other]) == packed([other, one])
    assert FileDescriptorSet.FromString(packed([one])).file[0].name == "a.proto"
