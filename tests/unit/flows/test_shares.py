"""Which ports leave by the SNAT addresses of their node."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

from flows import shares
from flows.model import FloatingIpChange, GatewayMode, NetworkChange, PortChange
from flows.snapshot import Snapshot
from tests.simulate.cloud import world
from tests.world import floating_ip


def wide(snapshot: Snapshot, key: int) -> bool:
    seat = snapshot.ports[f"port-{key}"].binding
    assert seat is not None
    return shares.zones(snapshot, seat.node)[seat.zone]


def test_a_port_shares_them_unless_it_has_a_floating_ip_or_its_network_no_way_out() -> None:
    base = world()
    port = base.ports["port-20"]
    assert not wide(base, 20)
    given = floating_ip(1, port)
    assert wide(base.apply(base.revision + 1, [FloatingIpChange(given.id, given)]), 20)
    network = replace(base.networks[port.network_id], gateway_mode=GatewayMode.EXTERNAL)
    assert wide(base.apply(base.revision + 1, [NetworkChange(network.id, network)]), 20)
    forced = replace(network, force_snat=(IPv4Network("198.51.100.0/24"),))
    assert not wide(base.apply(base.revision + 1, [NetworkChange(network.id, forced)]), 20)


def test_one_that_may_send_from_other_addresses_too_shares_them() -> None:
    base = world()
    port = base.ports["port-20"]
    given = floating_ip(1, port)
    free = replace(port, port_security=False, security_groups=None)
    changes = [PortChange(port.id, free), FloatingIpChange(given.id, given)]
    assert not wide(base.apply(base.revision + 1, changes), 20)


def test_a_node_that_is_not_known_has_none() -> None:
    assert shares.zones(world(), "n9") == {}
