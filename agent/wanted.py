"""Which bridges, ports and controllers a node should have, by its configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import HOST, AgentConfig, PhysicalNetwork
from agent.state import NODE_KEY
from agent.steps import SetLimits, SetSsl, Setting, Settings
from flows.pipeline import HOST_SNAT_PORTS, SERVICE_OFPORT, CtZone, Table

# OpenFlow port numbers of the uplinks, in the order of configuration: above those that Open vSwitch gives out by
# itself (1..32767) and below the reserved ones (65280 and up).
FIRST_UPLINK_OFPORT = SERVICE_OFPORT + 1

# towards the relay (agent/service_port.py)
SERVICE_DEVICE = "tl-service"

MAX_BACKOFF_MS = 1000

# What rules match of addresses. Without these each address becomes a flow of the datapath's own, where a rule names
# some (ovs-vswitchd.conf.db(5), Flow_Table: prefixes; older ones take three).
_PREFIXES = frozenset({"ct_nw_src", "ct_nw_dst", "nw_src"})


@dataclass(frozen=True, slots=True)
class WantedPort:
    """`settings` are of its interface, which has the port's name."""

    name: str
    settings: Settings = ()


@dataclass(frozen=True, slots=True)
class WantedController:
    target: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class WantedBridge:
    name: str
    settings: Settings
    ports: tuple[WantedPort, ...] = ()
    controllers: tuple[WantedController, ...] = ()
    prefixes: tuple[tuple[int, frozenset[str]], ...] = ()


def wanted(config: AgentConfig) -> tuple[WantedBridge, ...]:
    """What the configuration asks for; the integration bridge comes first."""
    integration = WantedBridge(
        name=config.integration_bridge,
        settings=(
            Setting("datapath_type", config.datapath_type),
            Setting("fail_mode", "secure"),
            Setting("protocols", frozenset({"OpenFlow14"})),
            Setting("other_config", config.datapath_id, "datapath-id"),
            Setting("other_config", "true", "disable-in-band"),
            Setting("external_ids", config.node, NODE_KEY),
        ),
        ports=(
            WantedPort(SERVICE_DEVICE, (Setting("ofport_request", SERVICE_OFPORT),)),
            *(
                WantedPort(
                    uplink_port(network),
                    (*_patch(peer_port(network)), Setting("ofport_request", FIRST_UPLINK_OFPORT + index)),
                )
                for index, network in enumerate(config.physical_networks)
            ),
        ),
        controllers=tuple(
            WantedController(
                target,
                (
                    Setting("max_backoff", MAX_BACKOFF_MS),
                    Setting("inactivity_probe", config.inactivity_probe),
                    Setting("connection_mode", "out-of-band"),
                ),
            )
            for target in config.controllers
        ),
        prefixes=tuple((table, _PREFIXES) for table in (Table.EGRESS_POLICY, Table.INGRESS_POLICY, Table.RULES)),
    )
    return (integration, *(_physical_bridge(network, config) for network in config.physical_networks))


def wanted_limits(config: AgentConfig, wide: frozenset[int] | None = None) -> SetLimits:
    """One VM must not use up what conntrack, or the SNAT address, has room for. In the database, so Open vSwitch sets
    them when it starts. A zone has a port's share until the controller says that its port needs none (`wide`).

    `wide` is None until it has: what was set before stays.
    """
    share = share_of(config)
    more = wide or frozenset() if share != config.conntrack_limit else frozenset()
    zones = ((CtZone.SNAT.value, config.snat_conntrack_limit), *((zone, config.conntrack_limit) for zone in more))
    return SetLimits(config.datapath_type, share, tuple(sorted(zones)), keep_others=wide is None)


def share_of(config: AgentConfig) -> int:
    """Connections of a port that leaves by the SNAT address."""
    shares_with_host = any(choice.partition(":")[0] == HOST for _, choice in config.snat_addresses)
    first, last = HOST_SNAT_PORTS
    most = (last - first + 1) // 4 if shares_with_host else config.snat_share
    limits = [limit for limit in (config.snat_share and min(config.snat_share, most), config.conntrack_limit) if limit]
    return min(limits, default=0)


def wanted_ssl(config: AgentConfig) -> SetSsl | None:
    """Open vSwitch reads the files again when they are others."""
    if config.tls is None:
        return None
    tls = config.tls
    return SetSsl(
        (Setting("private_key", tls.key), Setting("certificate", tls.certificate), Setting("ca_cert", tls.ca))
    )


def _physical_bridge(network: PhysicalNetwork, config: AgentConfig) -> WantedBridge:
    nic = (WantedPort(network.nic),) if network.nic else ()
    return WantedBridge(
        name=network.bridge,
        settings=(Setting("datapath_type", config.datapath_type), Setting("fail_mode", "standalone")),
        ports=(*nic, WantedPort(peer_port(network), _patch(uplink_port(network)))),
    )


def uplink_port(network: PhysicalNetwork) -> str:
    """Name of the patch port on the integration bridge. No network device: it may be longer than 15 characters."""
    return f"uplink-{network.name}"


def peer_port(network: PhysicalNetwork) -> str:
    """The other end of the uplink, on the physical network's bridge."""
    return f"int-{network.name}"


def _patch(peer: str) -> Settings:
    return (Setting("type", "patch"), Setting("options", peer, "peer"))
