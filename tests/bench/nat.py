"""What routing, SNAT and a floating IP cost beside a plain bridge of the same Open vSwitch (tests/bench/pairs.py).

The neighbour that VMs reach through NAT is on the node's own external bridge, so that no other machine's work is
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from etc.lab.fabric import EXTERNAL_NETWORK
from etc.lab.lab import Lab
from tests.bench.figures import Figure
from tests.bench.pairs import Way, attach, compared, plain_bridge
from tests.bench.ports import make_network
from tests.netns.cloud import make_outside

NEIGHBOUR = EXTERNAL_NETWORK[50]


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        yield from compared(lab, plain_bridge(lab, lab.nodes[0]), _ways(lab))


def _ways(lab: Lab) -> list[Way]:
    """All on one node."""
    node = lab.nodes[0]
    neighbour = attach(lab, node, f"br-{lab.fabric.external}", "neighbour", f"{NEIGHBOUR}/24")
    external = make_outside(lab)
    ranges = [f"{EXTERNAL_NETWORK[200]}-{EXTERNAL_NETWORK[220]}"]
    lab.client.create_floating_ip_pool({"name": "public", "network_id": external["id"], "ranges": ranges})
    one, other = make_network(lab, "one", 210), make_network(lab, "other", 211)
    vms = {
        name: lab.create_vm(name, node, network, project_id="bench")
        for name, network in (("client", one), ("server", other), ("public", one))
    }
    for vm in vms.values():
        vm.wait_configured()
    floating = lab.client.create_floating_ip({"pool": "public", "project_id": "bench"}).object
    assert floating
    written = lab.client.update_floating_ip(floating["id"], {"port_id": vms["public"].port["id"]})
    lab.confirm(written.revision)
    client = vms["client"].namespace
    return [
        Way("routed", client, vms["server"].namespace, vms["server"].address),
        Way("snat", client, neighbour, NEIGHBOUR),
        Way("floating", vms["public"].namespace, neighbour, NEIGHBOUR),
    ]
