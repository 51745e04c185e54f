"""The options of the controller's configuration file, by section; `config` makes values of them."""

from __future__ import annotations

from oslo_config import cfg

from controller.bounds import LEAST_LEASE_TIME, MOST_LEASE_TIME, MOST_TTL
from controller.store.address_specs import NO_TIMEOUT

LEAST_AUDIT_DAYS = 7
"""A controller that is away from its database for longer reads all of it, and works out what has changed."""


def _plain_tcp(what: str) -> cfg.Opt:
    return cfg.BoolOpt(
        "plain_tcp",
        default=False,
        help=f"{what} without TLS also where others reach it: listen may be another address than the loopback's.",
    )


GROUPS: dict[str, list[cfg.Opt]] = {
    "database": [
        cfg.StrOpt(
            "url",
            default="sqlite:////var/lib/trunkline/trunkline.db",
            secret=True,
            help="sqlite:////PATH for one controller, postgresql://USER:PASSWORD@ADDRESS/DATABASE for several.",
        ),
    ],
    "api": [
        cfg.HostAddressOpt("listen", default="127.0.0.1", help="Address the REST API listens on."),
        cfg.PortOpt("port", default=8080, min=1, help="TCP port the REST API listens on."),
        cfg.IntOpt(
            "rate",
            default=200,
            min=0,
            help="Requests a second of one token that are answered; 0: any number. Agents have no limit.",
        ),
        cfg.IntOpt("burst", default=1000, min=1, help="Requests of one token at once above that rate."),
        cfg.IntOpt(
            "failures",
            default=30,
            min=0,
            help="Wrong tokens a minute of one address, after which it is not heard for a while; 0: any number.",
        ),
        cfg.IntOpt(
            "connections_per_address", default=128, min=1, help="Connections that one address may have at once."
        ),
        _plain_tcp("HTTP"),
        cfg.StrOpt(
            "certificate", default="", help="PEM file with a certificate for the API alone; empty: that of [tls]."
        ),
        cfg.StrOpt("key", default="", help="PEM file with its key."),
        cfg.BoolOpt(
            "require_client_certificate",
            default=False,
            help="Only who shows a certificate of [tls] ca may speak to the API; a token is needed all the same.",
        ),
    ],
    "openflow": [
        cfg.HostAddressOpt("listen", default="127.0.0.1", help="Address the switches connect to."),
        cfg.PortOpt("port", default=6653, min=1, help="TCP port the switches connect to."),
        _plain_tcp("OpenFlow"),
    ],
    "tls": [
        cfg.StrOpt("certificate", default="", help="PEM file with the controller's certificate; empty: no TLS."),
        cfg.StrOpt("key", default="", help="PEM file with its key."),
        cfg.StrOpt("ca", default="", help="PEM file with the authority whose certificates nodes and clients have."),
        cfg.StrOpt("crl", default="", help="PEM file with those of them that are revoked; empty: none is."),
    ],
    "cluster": [
        cfg.StrOpt("name", default="", help="Name of this controller, unique among them. Default: the host name."),
        cfg.FloatOpt(
            "lease",
            default=2.0,
            min=1.0,
            max=MOST_TTL,
            help="Seconds without a sign of life after which other controllers take this one's nodes over. The same in "
            "all of them.",
        ),
        cfg.StrOpt(
            "api_url",
            default="",
            help="Where agents and you reach this controller's API, to be shown. Default: made of [api] listen and "
            "port.",
        ),
    ],
    "auth": [
        cfg.MultiStrOpt(
            "token",
            default=[],
            secret=True,
            help="ROLE:TOKEN[:SCOPE], once per token. Roles: admin, member (scope: its project), reader, "
            "agent (scope: its node, or none for any node). TOKEN may be sha256= and its hash (trunkline token hash).",
        ),
    ],
    "dhcp": [
        cfg.IntOpt(
            "lease_time",
            default=86400,
            min=LEAST_LEASE_TIME,
            max=MOST_LEASE_TIME,
            help="Seconds; for networks that set none.",
        ),
        cfg.BoolOpt(
            "use_single_default_gateway",
            default=False,
            help="Of the ports of one machine (device_id) only the one made first gets a default route.",
        ),
        cfg.BoolOpt(
            "force_release", default=True, help="A lease ends with its port, whose address can be given again at once."
        ),
    ],
    "addresses": [
        cfg.IntOpt(
            "disassociate_timeout",
            default=600,
            min=NO_TIMEOUT,
            help="Without force_release: seconds for which the address of a port that is gone is kept at most while "
            "its lease lasts; -1: until the lease ends.",
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
            help=f"Days for which it is known who has changed what, {LEAST_AUDIT_DAYS} at least; 0: for ever.",
        ),
    ],
    "packet_in": [
        cfg.IntOpt("rate", default=50, min=1, help="Packets a second that one port may send to the controller."),
        cfg.IntOpt("burst", default=100, min=1, help="Packets that one port may send at once above that rate."),
        cfg.IntOpt(
            "mute",
            default=60,
            min=0,
            max=4000,
            help="Seconds for which a port is not heard about what it floods the controller with; 0: always heard.",
        ),
    ],
    "dns": [
        cfg.StrOpt(
            "transfer_listen", default="", help="Address at which outside name servers get the zones; empty: nobody."
        ),
        cfg.PortOpt("transfer_port", default=53, min=1, help="Port there, TCP and UDP."),
        cfg.MultiStrOpt(
            "transfer_secondary",
            default=[],
            help="ADDRESS[:PORT] [KEY], once for each name server that gets the zones, and the key that it signs with.",
        ),
        cfg.MultiStrOpt(
            "transfer_key", default=[], secret=True, help="NAME:ALGORITHM:BASE64 of a key (TSIG), once for each."
        ),
        cfg.MultiStrOpt(
            "transfer_name_server",
            default=[],
            help="Name of a server that answers for the zones, once for each: their NS records.",
        ),
        cfg.StrOpt(
            "transfer_hostmaster",
            default="",
            help="Mailbox in the SOA of the zones; empty: hostmaster at the first name server.",
        ),
        cfg.BoolOpt(
            "transfer_networks",
            default=False,
            help="Also the names of ports in the domains of their networks, and of their addresses.",
        ),
        cfg.StrOpt(
            "transfer_catalog",
            default="",
            help="Name of a zone that lists all others, for name servers that take them from there (RFC 9432).",
        ),
        cfg.MultiStrOpt(
            "server",
            default=[],
            help="ADDRESS[#PORT] of a server to ask, once for each, in the order to be asked; /ZONE/ADDRESS[#PORT] for "
            "one zone alone, /ZONE/ for a zone that nobody is asked for. Without any for all zones, those of "
            "resolv_conf.",
        ),
        cfg.StrOpt(
            "resolv_conf", default="/etc/resolv.conf", help="File with the servers of this host; read when it changes."
        ),
        cfg.IntOpt("cache_size", default=10000, min=0, max=1000000, help="Answers of servers that are kept."),
        cfg.IntOpt(
            "ttl", default=0, min=0, max=3600, help="Seconds for which a VM may remember what it is told of a port."
        ),
        cfg.IntOpt("rate", default=300, min=1, help="Questions a second of one port that are answered."),
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
    "floating_ips": [
        cfg.StrOpt(
            "auto_assign_pool",
            default="",
            help="Name of the pool of which every new port on a translated network gets a floating IP.",
        ),
    ],
    "metadata": [
        cfg.StrOpt("availability_zone", default="nova", help="What machines are told that were not given one."),
        cfg.StrOpt(
            "vendor_data",
            default="",
            help="File with a JSON object: the vendor data of machines that were not given any of their own.",
        ),
        cfg.IntOpt("rate", default=50, min=1, help="Requests a second that are answered to one machine."),
        cfg.IntOpt(
            "burst", default=200, min=1, help="Requests that are answered to one machine at once above that rate."
        ),
        cfg.StrOpt(
            "nova_url",
            default="",
            help="nova-metadata: machines that are Nova's (ports with a device_id) are answered by it; empty: by us.",
        ),
        cfg.StrOpt("shared_secret", default="", secret=True, help="Nova's [neutron] metadata_proxy_shared_secret."),
        cfg.IntOpt("nova_timeout", default=4, min=1, help="Seconds that Nova may take for an answer."),
    ],
    "quota": [
        cfg.IntOpt("floating_ips", default=10, min=-1, help="Floating IPs that a project may have; -1: any number."),
        cfg.IntOpt(
            "security_groups",
            default=10,
            min=-1,
            help="Security groups that a project may have beside its group default; -1: any number.",
        ),
        cfg.IntOpt(
            "security_group_rules", default=100, min=-1, help="Rules that a security group may have; -1: any number."
        ),
        cfg.IntOpt("address_pairs", default=10, min=-1, help="Address pairs that a port may have; -1: any number."),
        cfg.IntOpt(
            "networks",
            default=3,
            min=-1,
            help="Networks that a project may have beside those that it was given; -1: any number.",
        ),
        cfg.IntOpt("ports", default=-1, min=-1, help="Ports that a project may have; -1: any number."),
        cfg.IntOpt("fixed_ips", default=-1, min=-1, help="Addresses that its ports may have; -1: any number."),
        cfg.IntOpt("dns_zones", default=10, min=-1, help="DNS zones that a project may have; -1: any number."),
        cfg.IntOpt("dns_records", default=500, min=-1, help="Records that each of them may have; -1: any number."),
    ],
    "project_networks": [
        cfg.StrOpt(
            "physical_network",
            default="",
            help="Physical network on which projects make VLAN networks of their own; empty: they make none.",
        ),
    ],
    "vlan": [
        cfg.StrOpt("range", default="100:4000", help="FIRST:LAST VLAN id given to networks that name no segment."),
    ],
    "logging": [
        cfg.StrOpt("format", default="console", choices=["json", "console"], help="Form of the log lines."),
        cfg.StrOpt("level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="Least severity."),
        cfg.IntOpt(
            "connection_sample",
            default=1,
            min=1,
            help="Of what security groups have reported, one in so many of each rule and refused port gets a line.",
        ),
    ],
}
