"""What is there before a page's commands: what the page says, or takes for granted.

Each page begins with an empty cloud. A command is named by how it begins.
"""

from __future__ import annotations

from collections.abc import Mapping

from etc.lab import netns
from etc.lab.control import member_token
from etc.lab.fabric import FAR_HOST
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.docs_text import ROOT, blocks
from tests.netns.cloud import delete_flow, make_vms, tcp, wait_outside, want
from tests.netns.docs_world import Step, World
from tests.netns.policy import zone_of

OUTSIDE = (
    "network create outside --flat --external --physical-network physnet-ext --cidr 203.0.113.0/24"
    " --gateway 203.0.113.1 --allocation-range 203.0.113.100-203.0.113.140 --no-dhcp"
)
POOL = "floating-ip-pool create public --network outside --range 203.0.113.200-203.0.113.250"
BLUE = "network create blue --project blue --vlan 120 --physical-network physnet1 --cidr 10.20.0.0/24"
GREEN = "network create green --project green --vlan 140 --physical-network physnet1 --cidr 10.40.0.0/24"
WEB1 = "port create web1 --network blue"
WEB2 = "port create web2 --network blue"
LET_IN = "security-group rule create --direction ingress"
HTTP = 80


def empty(world: World) -> None:
    world.clean()


def as_member(world: World) -> None:
    world.token = member_token("blue")


def written(page: str, first: str, name: str) -> Step:
    """The file that a page shows: its block that begins so."""

    def write(world: World) -> None:
        (block,) = [each for each in blocks((ROOT / "docs" / page).read_text()) if each[0].startswith(first)]
        (world.directory / name).write_text("\n".join(block) + "\n")

    return write


def vms(**places: str) -> Step:
    """VMs with their leases, each called `NAME="NODE NETWORK GROUP ADDRESS"`; the last two may be left out."""

    def make(world: World) -> None:
        client = world.lab.client
        networks = {network["name"]: network for network in client.list_networks()}
        groups = {group["name"]: group["id"] for group in client.list_security_groups()}
        wanted = []
        for name, place in places.items():
            node, network, *rest = place.split()
            fields: dict[str, object] = {}
            if rest:
                fields["security_groups"] = [groups[rest[0]]]
            if rest[1:]:
                fields["fixed_ips"] = [{"address": rest[1]}]
            wanted.append(want(name, world.lab.node(node), networks[network], hostname=name, **fields))
        make_vms(world.lab, *wanted)

    return make


def on(place: str) -> Step:
    """Where commands are run from here on."""

    def go(world: World) -> None:
        world.place = place

    return go


def a_connection_from_outside(world: World) -> None:
    """That stays open, to the floating IP of `a`; and the zones of `a`, which the page says are 1 and 30001."""
    a = world.lab.vms["a"]
    listener = world.stack.enter_context(tcp(a.namespace, a.address, HTTP))
    listener.listen(1)
    client = world.stack.enter_context(tcp(world.lab.fabric.far, FAR_HOST.ip))
    client.connect(("203.0.113.200", HTTP))
    served, _ = listener.accept()
    world.stack.enter_context(served)
    zone = zone_of(world.lab, a)
    world.meant |= {r"zone=1$": f"zone={zone}", r"zone=30001$": f"zone={30000 + zone}"}


def the_world_is_reached(world: World) -> None:
    wait_outside(world.lab, world.lab.vms["web1"])


def without_its_agent(world: World) -> None:
    """Node n3, until the page ends."""
    node = world.lab.node("n3")
    node.stop_agent()

    def back() -> None:
        node.start_agent(world.lab.control)
        world.lab.wait_connected()

    world.stack.callback(back)


def its_subnet(world: World) -> None:
    (network,) = world.lab.client.list_networks(name="green")
    world.meant["SUBNET-ID"] = network["subnets"][0]["id"]


def its_interface(world: World) -> None:
    world.meant["tap3f0c9d1e-7a"] = world.lab.vms["web0"].device


def it_speaks_ipv6(world: World) -> None:
    """The VM of the page, which has its link-local address then."""
    vm = world.lab.vms["vm"]
    netns.set_sysctl(vm.namespace, {"ipv6/conf/all/disable_ipv6": 0})

    def has_address() -> bool:
        links = netns.query(vm.namespace, "-6", "address", "show", "dev", "eth0", "scope", "link", "-tentative")
        return any("local" in each for link in links for each in link.get("addr_info", []))

    wait_until(has_address, 20, "no link-local address")


def outside_speaks_ipv6(world: World) -> None:
    world.lab.fabric.speak_ipv6()


def without(node: str, rule: Rule, text: str) -> Step:
    """Somebody has deleted that flow of a node's switch."""

    def lose(world: World) -> None:
        delete_flow(world.lab.node(node), rule, text)

    return lose


def only_from(group: str, cidr: str) -> Step:
    """The one rule of a group that lets in something is about others."""

    def change(world: World) -> None:
        client = world.lab.client
        (found,) = client.list_security_groups(name=group)
        rules = client.list_security_group_rules(security_group_id=found["id"])
        (rule,) = [rule for rule in rules if rule["direction"] == "ingress"]
        client.delete_security_group_rule(rule["id"])
        fields = {"direction": "ingress", "protocol": "tcp", "ports": rule["ports"], "remote_cidr": cidr}
        answer = client.create_security_group_rule({"security_group_id": found["id"], **fields})
        world.lab.confirm(answer.revision)

    return change


SETTINGS: Mapping[str, Mapping[str, tuple[Step, ...]]] = {
    "addresses.md": {
        "trunkline address list": (BLUE,),
        "trunkline address import plan.csv --check": (
            written("addresses.md", "kind,network", "plan.csv"),
            written("addresses.md", "networks:", "other.yaml"),
            "address import other.yaml --check",
        ),
    },
    "architecture.md": {
        "ovs-ofctl": (BLUE, vms(a="n1 blue", b="n2 blue")),
    },
    "dhcp.md": {
        "trunkline network set blue": (OUTSIDE, BLUE, WEB1),
    },
    "dns-zones.md": {
        "trunkline zone create lab.example": (
            OUTSIDE,
            POOL,
            "floating-ip create --pool public --project green --address 203.0.113.200",
        ),
        "trunkline zone set lab.example": (
            "zone create lab.example --project green",
            GREEN,
            GREEN.replace("green ", "green2 ", 1).replace("140", "141").replace("10.40", "10.41"),
        ),
    },
    "firewall.md": {
        "ovs-ofctl -O OpenFlow14 dump-flows br-int cookie=0x540000f500000000/0xffffffff00000000": (
            OUTSIDE,
            POOL,
            BLUE,
            "network create blue2 --project blue --vlan 121 --physical-network physnet1 --cidr 10.21.0.0/24",
            "security-group create web --project blue",
            "security-group create db --project blue",
            f"{LET_IN} web --protocol tcp --ports 22 --remote-cidr 198.51.100.0/24",
            f"{LET_IN} db --protocol tcp --ports 5432 --remote-group web",
            f"{LET_IN} web --protocol tcp --ports 80",
            vms(a="n1 blue web 10.20.0.1", c="n1 blue db 10.20.0.3", d="n2 blue2 db"),
            "floating-ip create --pool public --project blue --address 203.0.113.200 --port a --wait",
            a_connection_from_outside,
        ),
    },
    "ipv6.md": {
        "trunkline security-group rule create web": ("security-group create web",),
        "ip -6 route": (outside_speaks_ipv6, on("router")),
    },
    "metadata.md": {
        "curl -g": (f"{GREEN} --ipv6 2001:db8:40::/64", vms(vm="n1 green"), it_speaks_ipv6, on("vm")),
        "ip netns exec": (on(""),),
        "ovs-vsctl --if-exists": (on("n3"), without_its_agent),
        "trunkline port create": (empty, GREEN),
    },
    "operating.md": {
        "trunkline address list blue": (WEB1,),
        "trunkline address import plan.csv": (written("addresses.md", "kind,network", "plan.csv"),),
        "trunkline floating-ip-pool create": (WEB2, "port create game --network blue"),
        "trunkline port-forwarding create 203.0.113.201 --ports": (
            "floating-ip create --pool public --project blue --address 203.0.113.201",
        ),
        "trunkline network create pool": (empty,),
        "trunkline project scrub blue": ("port delete web1 web2",),
        "trunkline network create green": (empty,),
        "trunkline port create web1 --network green": (its_subnet,),
        "trunkline security-group create web": (empty, OUTSIDE, POOL, BLUE, WEB1, WEB2, as_member),
        "trunkline port create web1 --network blue": (empty, BLUE),
        "trunkline plug web1 --tap": ("port delete web1", WEB1),
        "trunkline port-binding create": (empty, BLUE, vms(web1="n1 blue")),
        "trunkline plan port set": (
            empty,
            BLUE,
            vms(web1="n1 blue", web2="n1 blue"),
            "security-group create web --project blue",
            f"{LET_IN} web --project blue --protocol tcp --ports 80",
        ),
        "trunkline events --follow": (
            empty,
            GREEN,
            "security-group create any --project green",
            vms(web1="n2 green any 10.40.0.5"),
        ),
    },
    "plugging.md": {
        "ovs-vsctl --timeout=30": (BLUE, vms(web0="n1 blue"), its_interface),
        "trunkline plug web1 --namespace": ("port create web1 --network blue",),
    },
    "troubleshooting.md": {
        "trunkline trace web1 --to db1 --proto": (
            OUTSIDE,
            POOL.replace("200-203.0.113.250", "150-203.0.113.160"),
            "network create front --project blue --vlan 120 --physical-network physnet1 --cidr 10.20.0.0/24",
            "network create back --project blue --vlan 121 --physical-network physnet1 --cidr 10.21.0.0/24"
            " --domain back.example",
            "security-group create web --project blue",
            "security-group create db --project blue",
            f"{LET_IN} web --protocol tcp --ports 80",
            vms(web1="n1 front web 10.20.0.1", db1="n2 back db 10.21.0.1"),
            "floating-ip create --pool public --project blue --address 203.0.113.150 --port web1 --wait",
            "floating-ip create --pool public --project blue --address 203.0.113.151",
            f"{LET_IN} db --protocol tcp --ports 5432 --remote-group web --wait",
            the_world_is_reached,
        ),
        "trunkline trace web1 --to db1.back.example": (only_from("db", "10.20.1.0/24"),),
        "trunkline trace web1 --to db1 --proto tcp --dport 5432 --live": (
            only_from("db", "10.20.0.0/16"),
            without("n2", Rule.INGRESS_RULE, "conj_id="),
        ),
    },
}
"""By page and command."""
