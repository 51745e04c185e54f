"""The options of the agent's configuration file, by section; `config` makes values of them."""

from __future__ import annotations

from oslo_config import cfg

_MOST_CONNECTIONS = 0xFFFFFFFF  # what the columns take (ovs-vswitchd.conf.db(5), CT_Zone)

_AGENT_OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt("node", help="Name of this node, unique in the cloud. Default: the host name.", sample_default="n1"),
    cfg.StrOpt("ovsdb", default="unix:/run/openvswitch/db.sock", help="Where ovsdb-server listens."),
    cfg.StrOpt(
        "integration_bridge",
        default="br-int",
        help="The one bridge the controller programs. VM interfaces join it with external_ids:iface-id=<port id>.",
    ),
    cfg.StrOpt(
        "datapath_type",
        default="system",
        choices=["system", "netdev"],
        help="system: the kernel datapath. netdev: the userspace datapath, for laboratories without the kernel module.",
    ),
    cfg.StrOpt(
        "datapath_id",
        help="OpenFlow datapath-id, 16 hexadecimal digits. Default: made of the node's name, so that it never changes.",
        sample_default="0000020000000001",
    ),
    cfg.MultiStrOpt(
        "physical_network",
        default=[],
        help="NAME:NIC, repeated for each physical network. The agent makes the bridge br-NAME, puts the NIC "
        "into it and joins it to the integration bridge. A NIC that holds addresses of the host is NOT "
        "touched: a device that is part of a bridge cannot use them. Move the addresses to the device "
        "br-NAME first (the agent has made it by then), with your own network configuration; the agent "
        "takes the NIC as soon as it has none. NAME alone makes a bridge whose uplink you add yourself, a "
        "bond for example.",
        sample_default=["physnet1:eth1", "physnet-ext:eth2"],
    ),
    cfg.MultiStrOpt(
        "controller",
        default=["tcp:127.0.0.1:6653"],
        help="OpenFlow controllers, ssl:ADDRESS:PORT or, without TLS, tcp:ADDRESS:PORT, repeated for each. "
        "Default: one on this machine.",
        sample_default=["ssl:192.0.2.10:6653"],
    ),
    cfg.MultiStrOpt(
        "api_url",
        default=["http://127.0.0.1:8080"],
        help="REST API of the controllers, https: or http:, repeated for each. Default: one on this machine.",
        sample_default=["https://192.0.2.10:8080"],
    ),
    cfg.StrOpt(
        "api_token",
        secret=True,
        help="Token of the role agent. Without one the certificate says which node this is.",
        sample_default="CHANGE-ME",
    ),
    cfg.StrOpt(
        "certificate",
        help="PEM files, as `trunkline pki node` makes them (docs/security.md), for ssl: and https:. The agent "
        "gives them to Open vSwitch, which needs to be able to read them. New ones are taken as soon as "
        "they are there.",
        sample_default="/etc/trunkline/tls/certificate.pem",
    ),
    cfg.StrOpt("key", help="PEM file with its key.", sample_default="/etc/trunkline/tls/key.pem"),
    cfg.StrOpt(
        "ca",
        help="PEM file with the authority whose controllers are trusted.",
        sample_default="/etc/trunkline/tls/ca.pem",
    ),
    cfg.StrOpt(
        "api_ca",
        help="Where the API has a certificate of another authority ([api] certificate of the controller).",
        sample_default="/etc/ssl/certs/ca-certificates.crt",
    ),
    cfg.MultiStrOpt(
        "snat_address",
        default=[],
        help="PHYSICAL_NETWORK:ADDRESS, this node's own address for NAT on a network marked external; or "
        "PHYSICAL_NETWORK:FIRST-LAST or PHYSICAL_NETWORK:CIDR, where it takes a free one from and keeps "
        "it. Default: one of the network's allocation range. Where the address or the range gives none, "
        "the node goes without NAT there, and says so here and in `node show`. PHYSICAL_NETWORK:host is "
        "the address that this host itself has on the device br-PHYSICAL_NETWORK, which NAT then shares: "
        "VMs leave from its ports 61440-65535, the host keeps all others. PHYSICAL_NETWORK:host:ADDRESS "
        "where it has several.",
        sample_default=["physnet-ext:203.0.113.11", "physnet-ext:203.0.113.64-203.0.113.95", "physnet-ext:host"],
    ),
    cfg.IntOpt(
        "conntrack_limit",
        default=65536,
        min=0,
        max=_MOST_CONNECTIONS,
        help="How many connections Open vSwitch tracks in one zone, 0 for any number: each port has two, of "
        "its connections as it sees them and as they are translated for its floating IPs. What is beyond "
        "is dropped by name and what is there goes on. A port that leaves by the SNAT address has snat_share. "
        "With the kernel datapath keep net.netfilter.nf_conntrack_max "
        "above it, or the host itself runs out.",
    ),
    cfg.IntOpt(
        "snat_share",
        default=16384,
        min=0,
        max=_MOST_CONNECTIONS,
        help="The same for a port that leaves by the SNAT address of the node: all such ports share its 64512 "
        "ports towards each destination, and one with a share of 16384 takes a quarter of them at most. "
        "1024 at most where the SNAT address is the host's own, which lends 4096. 0: conntrack_limit.",
    ),
    cfg.IntOpt(
        "snat_conntrack_limit",
        default=1048576,
        min=0,
        max=_MOST_CONNECTIONS,
        help="Connections in the zone that all ports without a floating IP share; 0: any.",
    ),
    cfg.StrOpt(
        "service_namespace",
        default="tl-service",
        help="VMs' requests for metadata and DNS over TCP are taken in a network namespace that the agent "
        "makes: docs/metadata.md. Another name for each node where several are on one machine.",
    ),
    cfg.FloatOpt(
        "metadata_rate",
        default=20.0,
        min=0.0,
        max=10000.0,
        help="Requests for metadata of one VM: so many a second (0: any number), and so many at once after a pause.",
    ),
    cfg.IntOpt("metadata_burst", default=200, min=1, max=100000, help="So many at once after a pause."),
    cfg.StrOpt(
        "socket",
        default="/run/trunkline/agent.sock",
        help="Where the plugins of container engines on this machine reach the agent (docs/plugging.md); empty: "
        "nowhere. Another one for each node where several are on one machine.",
    ),
    cfg.StrOpt(
        "plug_token_file",
        default="",
        help="File with the token that ports for containers are made with, where an engine's configuration names none.",
        sample_default="/etc/trunkline/plug.token",
    ),
    cfg.FloatOpt(
        "heartbeat_interval",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="Seconds between two reports when nothing changes. A change is reported at once.",
    ),
    cfg.IntOpt(
        "inactivity_probe",
        default=10000,
        min=0,
        max=3600000,
        help="Milliseconds of silence after which Open vSwitch probes a controller, which says something every 5 s; "
        "after as much again it connects anew. 0 never.",
    ),
)
_LOGGING_OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt("format", default="console", choices=["console", "json"], help="console or json"),
    cfg.StrOpt(
        "level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="DEBUG, INFO, WARNING or ERROR"
    ),
)
GROUPS = {"agent": _AGENT_OPTIONS, "logging": _LOGGING_OPTIONS}
