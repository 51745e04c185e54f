from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import uuid4

import pytest

from controller.store.specs import (
    AddressRange,
    Conflict,
    Exhausted,
    FixedIpSpec,
    Invalid,
    LeaseRecord,
    NotFound,
    PortSpec,
    SubnetSpec,
)

PORT_KEYS = 2**22 - 1


class Loaded(random.Random):
    """Dice that show what they are told, then 99."""

    def __init__(self, *values: int) -> None:
        super().__init__()
        self.values = list(values)

    def getrandbits(self, k: int) -> int:
        return self.values.pop(0) if self.values else 99


def test_a_port_is_given_what_it_did_not_ask_for(world: Any) -> None:
    network = world.network()
    world.node("n7")
    port = world.port(network, name="web", node="n7")
    assert world.again(port) == port
    assert port.port.mac.startswith("fa:16:3e:")
    assert (port.port.key, port.port.project_id, port.port.node) == (1, "blue", "n7")
    assert [str(ip.address) for ip in port.port.fixed_ips] == ["10.0.0.1"]
    assert port.port.binding is None


def test_macs(world: Any) -> None:
    network = world.network()
    assert world.port(network, mac="AA-BB-CC-00-11-22").port.mac == "aa:bb:cc:00:11:22"
    with pytest.raises(Conflict) as taken:
        world.port(network, mac="aabb.cc00.1122")
    assert (taken.value.code, taken.value.field) == ("mac_in_use", "mac")
    other = world.network("10.0.1.0/24")
    world.port(other, mac="aa:bb:cc:00:11:22")
    for bad in ("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:54:4c:00:00:01", "aa:bb", ""):
        with pytest.raises(Invalid) as refused:
            world.port(network, mac=bad)
        assert refused.value.code == "mac_invalid"


def test_a_generated_mac_that_is_taken_is_tried_again(make_world: Any) -> None:
    world = make_world(rng=Loaded(7, 7, 7, 7, 7, 8))
    network = world.network()
    assert world.port(network).port.mac == "fa:16:3e:00:00:07"
    assert world.port(network).port.mac == "fa:16:3e:00:00:08"  # the fifth attempt
    world.port(network)
    revision = world.store.revision()
    with pytest.raises(Exhausted) as none_left:
        world.port(network)
    assert none_left.value.code == "no_free_mac"
    assert world.store.revision() == revision


def test_a_batch_is_all_or_nothing(world: Any) -> None:
    network = world.network()
    specs = [PortSpec(network.id, name=str(index)) for index in range(5)]
    with pytest.raises(NotFound):
        world.store.create_ports([*specs, PortSpec("nowhere")], "tester")
    with pytest.raises(Invalid):
        world.store.create_ports([*specs, PortSpec(network.id, mac="ff:ff:ff:ff:ff:ff")], "tester")
    assert world.store.list_ports() == []
    written = world.store.create_ports(specs, "tester")
    assert [port.port.name for port in written.value] == ["0", "1", "2", "3", "4"]
    assert [port.revision for port in written.value] == list(range(3, 8))  # behind the project's group `default`
    assert written.revision == 7
    assert world.commits == [1, 7]


def test_ids_may_be_chosen(world: Any) -> None:
    network, id_ = world.network(), str(uuid4())
    assert world.port(network, id=id_.upper()).port.id == id_
    with pytest.raises(Conflict) as taken:
        world.port(network, id=id_)
    assert taken.value.code == "port_exists"
    with pytest.raises(Invalid):
        world.port(network, id="vm1")


def test_keys_go_round_and_skip_what_is_in_use(world: Any) -> None:
    network = world.network()
    kept = world.port(network)
    gone = world.port(network)
    world.store.delete_port(gone.port.id, "tester")
    assert world.port(network).port.key == 3  # not 2 again

    def wind_up(connection: Any) -> None:
        connection.exec_driver_sql(f"UPDATE counters SET value = {PORT_KEYS - 1} WHERE name = 'port_key'")

    world.store._database.write(wind_up)
    assert [world.port(network).port.key for _ in range(3)] == [PORT_KEYS, 2, 4]
    assert kept.port.key == 1


def test_ports_are_answered_in_the_order_they_were_asked_for_also_when_keys_go_round(world: Any) -> None:
    network = world.network()

    def wind_up(connection: Any) -> None:
        connection.exec_driver_sql(f"UPDATE counters SET value = {PORT_KEYS - 2} WHERE name = 'port_key'")

    world.store._database.write(wind_up)
    specs = [PortSpec(network.id, name=str(index)) for index in range(4)]
    made = world.store.create_ports(specs, "tester").value
    assert [port.port.key for port in made] == [PORT_KEYS - 1, PORT_KEYS, 1, 2]
    assert [port.port.name for port in made] == ["0", "1", "2", "3"]


def test_several_fixed_ips_keep_their_order(world: Any) -> None:
    network = world.network()
    subnet_id = network.spec.subnets[0].id
    fixed_ips = (FixedIpSpec(IPv4Address("10.0.0.9")), FixedIpSpec(subnet_id=subnet_id))
    port = world.port(network, fixed_ips=fixed_ips)
    assert [str(ip.address) for ip in port.port.fixed_ips] == ["10.0.0.9", "10.0.0.1"]
    with pytest.raises(Invalid) as refused:
        world.port(network, fixed_ips=(FixedIpSpec(subnet_id="nowhere"),))
    assert refused.value.code == "subnet_unknown"


def test_update(world: Any) -> None:
    port = world.port(world.network())
    written = world.store.update_port(port.port.id, {"name": "db", "hostname": "db1"}, "tester")
    assert (written.value.port.name, written.value.port.hostname) == ("db", "db1")
    assert world.store.update_port(port.port.id, {"name": "db"}, "tester").revision == written.revision
    for changes, code in (({"mac": "aa:bb:cc:00:11:22"}, "immutable"), ({"colour": 1}, "unknown_field")):
        with pytest.raises(Invalid) as refused:
            world.store.update_port(port.port.id, changes, "tester")
        assert refused.value.code == code


def test_update_of_fixed_ips(world: Any) -> None:
    network = world.network()
    port, other = world.port(network), world.port(network)
    nine = FixedIpSpec(IPv4Address("10.0.0.9"))

    def change(*fixed_ips: FixedIpSpec) -> list[str]:
        written = world.store.update_port(port.port.id, {"fixed_ips": fixed_ips}, "tester")
        return [str(ip.address) for ip in written.value.port.fixed_ips]

    assert change(nine, FixedIpSpec()) == ["10.0.0.9", "10.0.0.1"]  # "any" keeps what it has
    revision = world.store.revision()
    assert change() == ["10.0.0.9"]
    assert change(nine) == ["10.0.0.9"]
    assert world.store.revision() == revision + 1
    with pytest.raises(Conflict):
        change(FixedIpSpec(other.port.fixed_ips[0].address))
    assert [str(ip.address) for ip in world.again(port).port.fixed_ips] == ["10.0.0.9"]


def test_a_port_keeps_an_address_that_was_reserved_later(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    one, nine = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9")
    reserved = SubnetSpec(IPv4Network("10.0.0.0/24"), reserved=(AddressRange(one, nine),))
    world.store.update_network(network.id, {"subnets": (reserved,)}, "tester")

    def change(*fixed_ips: FixedIpSpec) -> list[str]:
        written = world.store.update_port(port.port.id, {"fixed_ips": fixed_ips}, "tester")
        return [str(ip.address) for ip in written.value.port.fixed_ips]

    assert change(FixedIpSpec(one), FixedIpSpec()) == ["10.0.0.1", "10.0.0.10"]
    assert change(FixedIpSpec(IPv4Address("10.0.0.10")), FixedIpSpec(one)) == ["10.0.0.10", "10.0.0.1"]
    with pytest.raises(Invalid) as refused:
        change(FixedIpSpec(one), FixedIpSpec(nine))
    assert (refused.value.code, refused.value.field) == ("address_reserved", "fixed_ips.1.address")
    with pytest.raises(Conflict):
        change(FixedIpSpec(one), FixedIpSpec(one))
    assert change(FixedIpSpec(IPv4Address("10.0.0.10"))) == ["10.0.0.10"]
    with pytest.raises(Invalid):
        change(FixedIpSpec(one))  # given back, it is reserved like the others


def test_lists(world: Any) -> None:
    network, other = world.network(), world.network("10.0.1.0/24", project_id="red")
    ports = [world.port(network, name=f"p{index}", device_id="vm1") for index in range(3)]
    world.node("n1")
    far = world.port(other, node="n1")

    def ids(**filters: Any) -> list[str]:
        return [record.port.id for record in world.store.list_ports(**filters)]

    assert ids(network_id=network.id) == [port.port.id for port in ports]
    assert ids(name="p1") == [ports[1].port.id]
    assert ids(project_id="red") == ids(node="n1") == [far.port.id]
    assert ids(device_id="vm1", limit=1, marker=ports[0].port.id) == [ports[1].port.id]


def test_a_deleted_port_is_gone_with_its_leases(world: Any) -> None:
    port, kept = (world.port(network) for network in [world.network()] * 2)

    def lease(id_: str, state: str, address: str = "10.0.0.1") -> LeaseRecord:
        return LeaseRecord(id_, IPv4Address(address), state, 1.0, 2.0)

    batch = [lease(port.port.id, "offered"), lease(port.port.id, "bound"), lease("nobody", "bound")]
    assert world.store.record_leases(batch) == 1
    assert world.store.record_leases([lease(port.port.id, "released"), lease(kept.port.id, "bound", "10.0.0.2")]) == 2
    assert [entry.state for entry in world.store.list_leases(port_id=port.port.id)] == ["released"]
    world.store.delete_port(port.port.id, "tester")
    assert [entry.port_id for entry in world.store.list_leases()] == [kept.port.id]
    with pytest.raises(NotFound):
        world.store.delete_port(port.port.id, "tester")


def test_an_address_stays_with_its_port_when_its_lease_has_ended(world: Any) -> None:
    network = world.network("10.0.0.0/29")
    paused = world.port(network)
    (held,) = paused.port.fixed_ips
    ended = LeaseRecord(paused.port.id, held.address, "bound", world.clock() - 100, world.clock() - 50)
    assert world.store.record_leases([ended]) == 1
    others = []
    with pytest.raises(Exhausted):
        for _ in range(8):
            others.append(world.port(network).port.fixed_ips[0].address)
    assert others and held.address not in others
    assert world.again(paused).port.fixed_ips == (held,)
