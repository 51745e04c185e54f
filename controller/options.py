"""The options of the controller's configuration file, by section; `config` makes values of them."""

from __future__ import annotations

from oslo_config import cfg

from controller.bounds import LEAST_LEASE_TIME, MOST_LEASE_TIME, MOST_TTL
from controller.newcomers import SHARE
from controller.store.address_specs import NO_TIMEOUT

LEAST_AUDIT_DAYS = 7
"""A controller that is away from its database for longer reads all of it, and works out what has changed."""


def _plain_tcp(what: str) -> cfg.Opt:
    return cfg.BoolOpt(
        "plain_tcp",
        default=False,
        help=f"{what} without TLS also where others reach it: on any address, where nobody else is on that network, or "
        "a proxy with TLS is before it. Without [tls] the controller starts on addresses of the loopback only.",
    )


GROUPS: dict[str, list[cfg.Opt]] = {
    "database": [
        cfg.StrOpt(
            "url",
            default="sqlite:////var/lib/trunkline/trunkline.db",
            secret=True,
            help="sqlite:////PATH (four slashes: an absolute path) is for one controller alone. For several on one "
            "PostgreSQL: postgresql://USER:PASSWORD@ADDRESS/DATABASE, and once `trunkline-controller db "
            "upgrade` (docs/operating.md).",
        ),
    ],
    "api": [
        cfg.HostAddressOpt(
            "listen", default="127.0.0.1", help="Address of the REST API: HTTPS with [tls], else plain HTTP."
        ),
        cfg.PortOpt("port", default=8080, min=1, help="TCP port the REST API listens on."),
        cfg.IntOpt(
            "rate",
            default=200,
            min=0,
            help="Requests of one token that are answered a second, and at once above that; more get 429. 0: any "
            "number. Agents have no limit.",
        ),
        cfg.IntOpt("burst", default=1000, min=1, help="Requests of one token at once above that rate."),
        cfg.IntOpt(
            "failures",
            default=30,
            min=0,
            help="Wrong tokens of one address a minute (of IPv6, of one /64), after which it gets 429 for a while; "
            "0: any number.",
        ),
        cfg.IntOpt(
            "connections_per_address",
            default=128,
            min=1,
            help="Connections that one address may have at once, of 2048 in all. More for a proxy that all users "
            "come through.",
        ),
        _plain_tcp("HTTP"),
        cfg.StrOpt("certificate", default="", help="A certificate that browsers know, for the API alone, and its key."),
        cfg.StrOpt("key", default="", help="PEM file with its key."),
        cfg.BoolOpt(
            "require_client_certificate",
            default=False,
            help="Only who shows a certificate of [tls] ca may speak to the API. A token is needed all the same, "
            "but by nodes.",
        ),
    ],
    "openflow": [
        cfg.HostAddressOpt(
            "listen",
            default="127.0.0.1",
            help="Where the switches connect to: by TLS, with the certificate of their node, where there is [tls].",
        ),
        cfg.PortOpt("port", default=6653, min=1, help="TCP port the switches connect to."),
        cfg.IntOpt(
            "handshakes_per_address",
            default=SHARE,
            min=1,
            help="Connections that one address (of IPv6, one /64) may have at once before their handshake begins, and "
            "as many in it, of 256 each in all; and how many handshakes it may begin per second. One more closes its "
            "oldest. Raise it where many nodes come by one address.",
        ),
        _plain_tcp("OpenFlow"),
    ],
    "tls": [
        cfg.StrOpt(
            "certificate",
            default="",
            help="PEM files, as `trunkline pki controller` makes them (docs/security.md): the controller's "
            "certificate and key, the authority that signs those of the nodes, and the list of those that are "
            "revoked. They are read again when they have changed.",
        ),
        cfg.StrOpt("key", default="", help="PEM file with its key."),
        cfg.StrOpt("ca", default="", help="PEM file with the authority whose certificates nodes and clients have."),
        cfg.StrOpt("crl", default="", help="PEM file with those of them that are revoked; empty: none is."),
    ],
    "cluster": [
        cfg.StrOpt(
            "name",
            default="",
            help="Several controllers share a PostgreSQL, and with it the nodes (docs/operating.md). Name of this one, "
            "unique among them. Default: the host name.",
        ),
        cfg.FloatOpt(
            "lease",
            default=2.0,
            min=1.0,
            max=MOST_TTL,
            help="Seconds without a sign of life after which others take this one's nodes over. The same in all.",
        ),
        cfg.StrOpt(
            "api_url",
            default="",
            help="Where this controller's API is reached, to be shown. Default: made of [api] listen and port.",
        ),
    ],
    "auth": [
        cfg.MultiStrOpt(
            "token",
            default=[],
            secret=True,
            help="One line per token: ROLE:TOKEN[:SCOPE]. Without a token nothing but /v1/health answers.\n"
            "  admin:TOKEN            everything\n"
            "  member:TOKEN:PROJECT   its project's networks and ports, and the shared networks\n"
            "  reader:TOKEN           reads everything, also /metrics and /stats\n"
            "  agent:TOKEN[:NODE]     registers its node (or any) and reports its interfaces\n"
            "A token of your own should have 32 characters at least: one that is shorter can be guessed, and is not "
            "heard while its address sends wrong ones. Better is a hash, so that this file tells no token: "
            "`trunkline token hash` makes a token and what to write in its place (admin:sha256=...). All "
            "others are made with `trunkline token create`, without a restart.",
            sample_default=[
                "admin:CHANGE-ME",
                "member:CHANGE-ME-TOO:project-a",
                "reader:CHANGE-ME-AS-WELL",
                "agent:CHANGE-ME-ONCE-MORE",
                "admin:sha256=0000000000000000000000000000000000000000000000000000000000000000",
            ],
        ),
    ],
    "dhcp": [
        cfg.IntOpt(
            "lease_time",
            default=86400,
            min=LEAST_LEASE_TIME,
            max=MOST_LEASE_TIME,
            help="Seconds, for networks that set no lease_time.",
        ),
        cfg.BoolOpt(
            "use_single_default_gateway",
            default=False,
            help="Of the ports of one machine (those with one device_id, in one project) only the one that was "
            "made first is given a default route. By default each port is given its network's.",
        ),
        cfg.BoolOpt(
            "force_release",
            default=True,
            help="A lease ends with its port, whose address can be given to another at once. False: nobody is "
            "given the address while the lease lasts, as its client may still use it.",
        ),
    ],
    "addresses": [
        cfg.IntOpt(
            "disassociate_timeout",
            default=600,
            min=NO_TIMEOUT,
            help="Seconds for which an address is kept at most where force_release is False; -1: until the lease "
            "ends, however long that is.",
        ),
        cfg.IntOpt(
            "history_days",
            default=0,
            min=0,
            max=36500,
            help="Days for which it is known who had an address, after they had it; 0: for ever.",
        ),
    ],
    "audit": [
        cfg.IntOpt(
            "days",
            default=0,
            min=0,
            max=36500,
            help=f"Days for which it is known who has changed what (GET /v1/audit), {LEAST_AUDIT_DAYS} at least; 0: "
            "for ever. A controller that was away from its database for longer has to be started anew.",
        ),
    ],
    "packet_in": [
        cfg.IntOpt(
            "rate",
            default=50,
            min=1,
            help="What one port may send to the controller (DHCP and the like): packets a second, and at once "
            "above that.",
        ),
        cfg.IntOpt("burst", default=100, min=1, help="Packets that one port may send at once above that rate."),
        cfg.IntOpt(
            "mute",
            default=60,
            min=0,
            max=4000,
            help="Seconds for which a port is not heard about what it floods the controller with, whose switch "
            "allows 50 packets a second and 100 at once; twice as long each time it goes on, up to 16 times. "
            "0: always heard.",
        ),
    ],
    "dns": [
        cfg.StrOpt(
            "transfer_listen",
            default="",
            help="Zones for name servers of your own (docs/dns-zones.md). Address and port at which they get them; "
            "by default nobody does.",
        ),
        cfg.PortOpt("transfer_port", default=53, min=1, help="Port there, TCP and UDP."),
        cfg.MultiStrOpt(
            "transfer_secondary",
            default=[],
            help="ADDRESS[:PORT] [KEY], one line for each of them: only these are answered. With a key both sides "
            "sign what they say.",
            sample_default=["192.0.2.53", "[2001:db8::53]:53 trunkline-transfer"],
        ),
        cfg.MultiStrOpt(
            "transfer_key",
            default=[],
            secret=True,
            help="NAME:ALGORITHM:BASE64; hmac-sha256, hmac-sha384 or hmac-sha512. To make one: openssl rand -base64 32",
            sample_default=["trunkline-transfer:hmac-sha256:CHANGE-ME"],
        ),
        cfg.MultiStrOpt(
            "transfer_name_server",
            default=[],
            help="The names of the servers that answer for the zones (their NS records), one line each; one is needed.",
            sample_default=["ns1.example.net"],
        ),
        cfg.StrOpt(
            "transfer_hostmaster",
            default="",
            help="Mailbox in the SOA, such as dns@example.net; without, hostmaster at the first name server.",
        ),
        cfg.BoolOpt(
            "transfer_networks",
            default=False,
            help="Also zones of the networks' DNS domains, with the names of their ports, and of their ranges (PTR).",
        ),
        cfg.StrOpt(
            "transfer_catalog",
            default="",
            help="A zone of this name, such as catalog.invalid, lists all others, for servers that know catalog "
            "zones (RFC 9432).",
        ),
        cfg.MultiStrOpt(
            "server",
            default=[],
            help="Servers that the resolver asks about what is no name of the cloud, in this order, each on a line "
            "of its own: ADDRESS or ADDRESS#PORT. Without any it asks those of resolv_conf. /ZONE/ADDRESS for "
            "the names of one zone alone, which nobody else is asked about; /ZONE/ for a zone of which "
            "nothing is to leave. The servers of a network (--dns-upstream) come before those for all zones.",
            sample_default=["192.0.2.53", "/corp.example/10.in-addr.arpa/192.0.2.54"],
        ),
        cfg.StrOpt(
            "resolv_conf", default="/etc/resolv.conf", help="File with the servers of this host; read when it changes."
        ),
        cfg.IntOpt("cache_size", default=10000, min=0, max=1000000, help="Answers of servers that are kept, at most."),
        cfg.IntOpt(
            "ttl",
            default=0,
            min=0,
            max=3600,
            help="Seconds for which a VM may remember what it is told of a port; 0: it asks each time.",
        ),
        cfg.IntOpt(
            "rate",
            default=300,
            min=1,
            help="Questions of one port: a second, and at once. A node lets through no more than 300 and 600.",
        ),
        cfg.IntOpt("burst", default=600, min=1, help="Questions that one port may ask at once above that rate."),
    ],
    "gateway": [
        cfg.IntOpt(
            "release_delay",
            default=600,
            min=0,
            help="Seconds a node keeps its gateway address of a network after its last port there has left.",
        ),
    ],
    "nat": [
        cfg.BoolOpt(
            "drop_private",
            default=False,
            help="Private addresses (RFC 1918, 100.64.0.0/10, fc00::/7) are not looked for outside, unless a subnet, a "
            "route or an option of the network names them (docs/nat.md). The same in all controllers.",
        ),
    ],
    "floating_ips": [
        cfg.StrOpt(
            "auto_assign_pool",
            default="",
            help="Name of a floating IP pool: every new port on a network that the nodes translate for gets one of "
            "it, and keeps it until it is deleted. No port can be made while the pool is empty. By default "
            "none gets one by itself.",
        ),
    ],
    "metadata": [
        cfg.StrOpt(
            "availability_zone",
            default="nova",
            help="What machines are told at 169.254.169.254. Their availability zone, where they were not given "
            "another.",
        ),
        cfg.StrOpt(
            "vendor_data",
            default="",
            help="File with a JSON object: the vendor data of machines that were not given any of their own. Read "
            "when the controller starts.",
        ),
        cfg.IntOpt(
            "rate",
            default=50,
            min=1,
            help="Requests of one machine that are answered: so many a second, and at once above that.",
        ),
        cfg.IntOpt(
            "burst", default=200, min=1, help="Requests that are answered to one machine at once above that rate."
        ),
        cfg.StrOpt(
            "nova_url",
            default="",
            help="nova-metadata, such as http://192.0.2.1:8775: answers for the machines that are Nova's, which "
            "are the ports with a device_id. By default the controller answers for all.",
        ),
        cfg.StrOpt(
            "shared_secret",
            default="",
            secret=True,
            help="What Nova has as [neutron] metadata_proxy_shared_secret, beside service_metadata_proxy = true.",
        ),
        cfg.IntOpt(
            "nova_timeout",
            default=4,
            min=1,
            help="Seconds that Nova may take for an answer. The relay on the node waits for 5.",
        ),
    ],
    "quota": [
        cfg.IntOpt(
            "floating_ips",
            default=10,
            min=-1,
            help="Floating IPs that a project may have; -1: any number. PATCH /v1/quotas/PROJECT sets it for one "
            "project.",
        ),
        cfg.IntOpt(
            "security_groups",
            default=10,
            min=-1,
            help="Security groups that a project may have beside its group default; -1: any number. This and the "
            "next two can be set for one project as well.",
        ),
        cfg.IntOpt(
            "security_group_rules", default=100, min=-1, help="Rules that a security group may have; -1: any number."
        ),
        cfg.IntOpt("address_pairs", default=10, min=-1, help="Address pairs that a port may have; -1: any number."),
        cfg.IntOpt(
            "networks",
            default=3,
            min=-1,
            help="Networks that a project may have beside those that an administrator, or its first port, has "
            "given to it; -1: any number.",
        ),
        cfg.IntOpt(
            "ports",
            default=-1,
            min=-1,
            help="Ports that a project may have, and the addresses that these may have (fixed IPs); -1: any number.",
        ),
        cfg.IntOpt("fixed_ips", default=-1, min=-1, help="Addresses that its ports may have; -1: any number."),
        cfg.IntOpt(
            "dns_zones",
            default=10,
            min=-1,
            help="DNS zones that a project may have, and the records of each of them; -1: any number.",
        ),
        cfg.IntOpt("dns_records", default=500, min=-1, help="Records that each of them may have; -1: any number."),
    ],
    "project_networks": [
        cfg.StrOpt(
            "physical_network",
            default="",
            help="Physical network on which projects make VLAN networks of their own (role member), as many as "
            "[quota] networks says. The VLAN is chosen from [vlan] range. By default only administrators make "
            "networks.",
        ),
    ],
    "vlan": [
        cfg.StrOpt(
            "range",
            default="100:4000",
            help="VLAN ids for networks of kind vlan that name no segment, both ends included.",
        ),
    ],
    "logging": [
        cfg.StrOpt("format", default="console", choices=["json", "console"], help="json or console"),
        cfg.StrOpt(
            "level",
            default="INFO",
            choices=["DEBUG", "INFO", "WARNING", "ERROR"],
            help="DEBUG, INFO, WARNING or ERROR. DEBUG also logs reads of the API.",
        ),
        cfg.IntOpt(
            "connection_sample",
            default=1,
            min=1,
            help="Of what security groups have reported, one in so many of each rule and refused port gets a line.",
        ),
    ],
}
