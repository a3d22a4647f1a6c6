"""What a command and an environment may refer to."""

from typing import Any

import pytest

from mesh.agent.addresses import Addresses, addresses_for, port_names
from mesh.agent.plan import Plan, plan_from
from mesh.agent.variables import filled, given_environment, variables_for
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import StartError

GIVEN = {
    "inbound/50051": 20001,
    "inbound/80": 20002,
    "app/50051": 20003,
    "upstream/stock": 20005,
    "upstream/stock:9090": 20006,
    "outbound": 20007,
}


def a_plan(**fields: Any) -> Plan:
    ports = [
        agents_pb2.PlannedPort(name="main", number=50051, protocol=agents_pb2.APP_PROTOCOL_GRPC),
        agents_pb2.PlannedPort(name="admin-ui", number=80, protocol=agents_pb2.APP_PROTOCOL_HTTP, target_port=8080),
    ]
    upstreams = [
        agents_pb2.PlannedUpstream(key="stock", env="STOCK_ADDR"),
        agents_pb2.PlannedUpstream(key="stock:9090"),
    ]
    health = agents_pb2.HealthPlan(type="none", healthy_after=1, unhealthy_after=3)
    made: dict[str, Any] = {"ports": ports, "upstreams": upstreams, "health": health, "where": "mesh.yaml:3"} | fields
    return plan_from(agents_pb2.LaunchPlan(**made))


def addresses(plan: Plan) -> Addresses:
    return addresses_for(plan, GIVEN, "/run/admin.sock")


def variables() -> dict[str, str]:
    return variables_for(a_plan(), addresses(a_plan()), python="/venv/bin/python", state="/state")


def test_a_fixed_port_is_not_in_the_port_book() -> None:
    assert port_names(a_plan()) == tuple(GIVEN)


def test_what_the_control_plane_is_told() -> None:
    assert addresses(a_plan()).message == agents_pb2.Addresses(
        inbound={50051: "127.0.0.1:20001", 80: "127.0.0.1:20002"},
        app={50051: "127.0.0.1:20003", 80: "127.0.0.1:8080"},
        upstreams={"stock": "127.0.0.1:20005", "stock:9090": "127.0.0.1:20006"},
        outbound="127.0.0.1:20007",
        admin="/run/admin.sock",
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("${port}", "20003", id="the first port"),
        pytest.param("--ui=${port.admin-ui}", "--ui=8080", id="another port, within a word"),
        pytest.param("${host}:${port.main}", "127.0.0.1:20003", id="two in one word"),
        pytest.param("${upstreams.stock}", "127.0.0.1:20005", id="an upstream"),
        pytest.param("${upstreams.stock:9090}", "127.0.0.1:20006", id="an upstream's second port"),
        pytest.param("http://${outbound}", "http://127.0.0.1:20007", id="the port that routes by name"),
        pytest.param("${python} ${state}", "/venv/bin/python /state", id="python and the state folder"),
        pytest.param("$${HOME} $HOME $", "${HOME} $HOME $", id="what is meant for a shell"),
    ],
)
def test_a_variable_is_replaced(text: str, value: str) -> None:
    assert filled(text, variables(), "mesh.yaml:3") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("${prot}", r"mesh\.yaml:3: \$\{prot\} is not known.* Did you mean \$\{port\}\?", id="a slip"),
        pytest.param("${PORT}", r"Did you mean \$\{port\}\?", id="as a shell calls it"),
        pytest.param("${HOME}", r"There are \$\{host\}, .*write \$\$\{HOME\} for the plain text", id="a shell's"),
        pytest.param("${upstreams.stok}", r"Did you mean \$\{upstreams\.stock\}\?", id="an upstream misspelt"),
    ],
)
def test_an_unknown_variable_is_refused_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(StartError, match=message):
        filled(text, variables(), "mesh.yaml:3")


def test_an_upstream_of_a_workload_without_upstreams_is_to_be_declared() -> None:
    plan = a_plan(upstreams=[])
    known = variables_for(plan, addresses(plan), python="", state="")

    with pytest.raises(StartError, match="Declare it under `upstreams:`"):
        filled("${upstreams.stock}", known, "mesh.yaml:3")


def test_every_service_gets_its_ports_and_upstreams_unasked() -> None:
    assert given_environment(a_plan(), addresses(a_plan())) == {
        "HOST": "127.0.0.1",
        "PORT": "20003",
        "PORT_MAIN": "20003",
        "PORT_ADMIN_UI": "8080",
        "STOCK_ADDR": "127.0.0.1:20005",
    }


def test_a_workload_without_ports_has_no_port() -> None:
    plan = a_plan(ports=[], upstreams=[])

    assert given_environment(plan, addresses(plan)) == {"HOST": "127.0.0.1"}
    assert "port" not in variables_for(plan, addresses(plan), python="", state="")
