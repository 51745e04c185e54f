"""The controller's configuration: oslo.config, one INI file, registered beside Ryu's own options.

`load` is for our own entry point, `read` for a process whose options somebody else has parsed (ryu-manager).
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from oslo_config import cfg
from ryu import cfg as ryu_cfg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from agent.version import version
from controller import tls_settings
from controller.api.credentials import Credential, parse_credentials
from controller.api.limits import RequestLimits
from controller.bounds import FIRST_VLAN, LAST_VLAN
from controller.dns import transfer_settings
from controller.dns.build import DnsSettings
from controller.dns.transfer_settings import TransferSettings
from controller.dns.upstreams import Servers, parse_servers
from controller.metadata.machine import Defaults
from controller.metadata.nova import NovaSettings
from controller.metadata.service import MetadataSettings
from controller.options import GROUPS, LEAST_AUDIT_DAYS
from controller.store.address_specs import HoldPolicy
from controller.store.quota_specs import Limits
from controller.tls_settings import TlsFiles, TlsSettings

PROGRAM = "trunkline-controller"
MOST = 2**31 - 1
DEFAULT_FILE = Path("/etc/trunkline/trunkline-controller.conf")

# Ryu's modules that register the options `apply_to_ryu` sets, in the order they can be imported.
_RYU_MODULES = ("ryu.base.app_manager", "ryu.controller.controller", "ryu.app.wsgi")


class ConfigError(Exception):
    """One line that says which option is wrong, and why."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """This controller among several: `lease` is in seconds."""

    name: str
    lease: float
    api_url: str


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """Times are in seconds; `vlan_range` includes both ends."""

    database_url: str
    api_listen: str
    api_port: int
    request_limits: RequestLimits
    connections_per_address: int
    handshakes_per_address: int
    openflow_listen: str
    openflow_port: int
    credentials: tuple[Credential, ...]
    lease_time: int
    single_default_gateway: bool
    packet_in_rate: int
    packet_in_burst: int
    packet_in_mute: int
    dns: DnsSettings
    gateway_release_delay: int
    drop_private: bool
    history_days: int
    audit_days: int
    vlan_range: tuple[int, int]
    auto_assign_pool: str | None
    metadata: MetadataSettings
    limits: Limits
    project_physical_network: str | None
    holds: HoldPolicy
    log_format: str
    log_level: str
    connection_sample: int
    cluster: ClusterSettings
    zone_transfer: TransferSettings | None = None
    openflow_tls: TlsSettings | None = None
    api_tls: TlsSettings | None = None


def register(conf: cfg.ConfigOpts) -> None:
    """Registering twice is harmless."""
    for group, options in GROUPS.items():
        conf.register_opts(options, group=group)


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see --help)")


def _arguments(argv: Sequence[str]) -> list[str]:
    """Our command line, in oslo.config's words. Of Ryu's own options, which it would show and take, some would undo
    what `apply_to_ryu` sets. Raises ConfigError, SystemExit after --help and --version.
    """
    parser = _Arguments(
        prog=PROGRAM,
        description="Trunkline's controller: computes all flows and puts them on every node's Open vSwitch.",
        epilog="Its database: trunkline-controller db --help. "
        "All settings are in the file; etc/trunkline-controller.conf.sample shows them with their defaults. "
        "It logs to stderr. SIGTERM ends it; a changed file needs a restart.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        metavar="FILE",
        help=f"default: {DEFAULT_FILE}, if there is one; of several, a later one wins",
    )
    parser.add_argument(
        "--config-dir", action="append", default=[], metavar="DIR", help="also all *.conf in there, by name"
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    given = parser.parse_args(argv)
    files = [word for file in given.config_file for word in ("--config-file", file)]
    return files + [word for directory in given.config_dir for word in ("--config-dir", directory)]


def load(argv: Sequence[str], conf: cfg.ConfigOpts = ryu_cfg.CONF) -> ControllerConfig:
    """Parses the command line and its configuration files. A mistake is printed on one line and exits with code 2."""
    register(conf)
    try:
        arguments = _arguments(argv)
        try:
            conf(
                args=arguments,
                prog=PROGRAM,
                project="trunkline",
                default_config_files=[str(DEFAULT_FILE)] if DEFAULT_FILE.exists() else [],
            )
        except (cfg.Error, ValueError) as error:  # ValueError: the file is no UTF-8
            raise ConfigError(str(error)) from error
        return read(conf)
    except ConfigError as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def read(conf: cfg.ConfigOpts = ryu_cfg.CONF) -> ControllerConfig:
    """Our values out of parsed options. Raises ConfigError for an unknown option and for a malformed value."""
    register(conf)
    in_directories = (str(file) for name in conf.config_dir or [] for file in sorted(Path(name).glob("*.conf")))
    _refuse_unknown(conf, [*(conf.config_file or []), *in_directories])
    try:
        _refuse_endless(conf)
        openflow_tls, api_tls = _tls(conf)
        return ControllerConfig(
            database_url=database_url(conf.database.url),
            api_listen=conf.api.listen,
            api_port=conf.api.port,
            request_limits=RequestLimits(conf.api.rate, conf.api.burst, conf.api.failures),
            connections_per_address=conf.api.connections_per_address,
            handshakes_per_address=conf.openflow.handshakes_per_address,
            openflow_listen=conf.openflow.listen,
            openflow_port=conf.openflow.port,
            credentials=_credentials(conf.auth.token),
            lease_time=conf.dhcp.lease_time,
            single_default_gateway=conf.dhcp.use_single_default_gateway,
            packet_in_rate=conf.packet_in.rate,
            packet_in_burst=conf.packet_in.burst,
            packet_in_mute=conf.packet_in.mute,
            dns=DnsSettings(
                servers=_dns_servers(conf.dns.server),
                resolv_conf=Path(conf.dns.resolv_conf),
                cache_size=conf.dns.cache_size,
                ttl=conf.dns.ttl,
                rate=conf.dns.rate,
                burst=conf.dns.burst,
            ),
            gateway_release_delay=conf.gateway.release_delay,
            drop_private=conf.nat.drop_private,
            history_days=conf.addresses.history_days,
            audit_days=_audit_days(conf.audit.days),
            vlan_range=_vlan_range(conf.vlan.range),
            auto_assign_pool=conf.floating_ips.auto_assign_pool or None,
            metadata=_metadata(conf.metadata),
            limits=Limits(
                floating_ips=conf.quota.floating_ips,
                security_groups=conf.quota.security_groups,
                security_group_rules=conf.quota.security_group_rules,
                address_pairs=conf.quota.address_pairs,
                networks=conf.quota.networks,
                ports=conf.quota.ports,
                fixed_ips=conf.quota.fixed_ips,
                dns_zones=conf.quota.dns_zones,
                dns_records=conf.quota.dns_records,
            ),
            project_physical_network=conf.project_networks.physical_network or None,
            holds=HoldPolicy(conf.dhcp.force_release, conf.addresses.disassociate_timeout),
            log_format=conf.logging.format,
            log_level=conf.logging.level,
            connection_sample=conf.logging.connection_sample,
            cluster=_cluster(conf, "http" if api_tls is None else "https"),
            zone_transfer=_zone_transfer(conf.dns),
            openflow_tls=openflow_tls,
            api_tls=api_tls,
        )
    except (cfg.Error, ValueError) as error:
        raise ConfigError(str(error)) from error


def apply_to_ryu(config: ControllerConfig, conf: cfg.ConfigOpts = ryu_cfg.CONF) -> None:
    """Sets Ryu's own options. With no port Ryu would also open the legacy 6633, and both on every address.

    Needs compat.install() before. Call it before Ryu's OpenFlow controller starts.
    """
    for module in _RYU_MODULES:
        importlib.import_module(module)
    for name, value in (
        ("ofp_listen_host", config.openflow_listen),
        ("ofp_tcp_listen_port", config.openflow_port),
        ("wsapi_host", config.api_listen),
        ("wsapi_port", config.api_port),
        # without these a switch that died silently is believed alive for ever
        ("echo_request_interval", 5.0),
        ("maximum_unreplied_echo_requests", 3),
    ):
        conf.set_override(name, value)


def _refuse_unknown(conf: cfg.ConfigOpts, files: Iterable[str]) -> None:
    """oslo.config ignores what it does not know; a misspelt option must not go unnoticed."""
    for file in files:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(file, sections).parse()
        for section, values in sections.items():
            if section == "DEFAULT":
                known = set(conf)  # Ryu's own options
            elif section in GROUPS:
                known = {option.dest for option in GROUPS[section]}
            else:
                raise ConfigError(f"{file}: unknown section [{section}] (known: {', '.join(GROUPS)})")
            for name in values:
                if name.replace("-", "_") not in known:
                    raise ConfigError(f"{file}: unknown option {name} in section [{section}]")


def _refuse_endless(conf: cfg.ConfigOpts) -> None:
    """What is compared with times and stored: "nan" is neither less nor more than any bound, and 10^30 fits nowhere."""
    for section, options in GROUPS.items():
        for option in options:
            value = conf[section][option.dest]
            if isinstance(value, int | float) and not -MOST <= value <= MOST:
                raise ConfigError(f"[{section}] {option.name} must be a number, {MOST} at most, not {value}")


def database_url(text: str) -> str:
    """The same. Raises ValueError for what is no URL of a database that we can use."""
    try:
        found = make_url(text).drivername
    except (ArgumentError, ValueError):  # which may show the password
        found = ""
    if found not in ("sqlite", "postgresql", "postgresql+psycopg2"):
        raise ValueError("[database] url must be sqlite:////PATH or postgresql://USER:PASSWORD@ADDRESS/DATABASE")
    return text


def _audit_days(days: int) -> int:
    if 0 < days < LEAST_AUDIT_DAYS:
        raise ValueError(f"[audit] days must be 0 or at least {LEAST_AUDIT_DAYS}")
    return days


def _tls(conf: cfg.ConfigOpts) -> tuple[TlsSettings | None, TlsSettings | None]:
    """Of OpenFlow and of the API. Raises ValueError, also for an address that needs it."""
    given, api = conf.tls, conf.api
    openflow_tls, api_tls = tls_settings.parse(
        TlsFiles(given.certificate, given.key, given.ca, given.crl),
        TlsFiles(api.certificate, api.key),
        demand=api.require_client_certificate,
    )
    for section, group, tls in (("openflow", conf.openflow, openflow_tls), ("api", api, api_tls)):
        if tls is None and not group.plain_tcp:
            tls_settings.refuse_plain(section, group.listen)
    return openflow_tls, api_tls


def _cluster(conf: cfg.ConfigOpts, scheme: str) -> ClusterSettings:
    name = conf.cluster.name or socket.gethostname()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", name):
        raise ValueError(f"[cluster] name may hold letters, digits and . _ -, not {name!r}")
    url = conf.cluster.api_url
    if url and not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", url):
        raise ValueError("[cluster] api_url must be an address such as http://192.0.2.1:8080")
    host = f"[{conf.api.listen}]" if ":" in conf.api.listen else conf.api.listen
    return ClusterSettings(name, conf.cluster.lease, url or f"{scheme}://{host}:{conf.api.port}")


def _credentials(texts: Iterable[str]) -> tuple[Credential, ...]:
    try:
        return parse_credentials(texts)
    except ValueError as error:
        raise ValueError(f"[auth] {error}") from None


def _metadata(group: Any) -> MetadataSettings:
    nova = None
    if group.nova_url:
        if not re.fullmatch(r"https?://[^/?#]+[^?#]*", group.nova_url):
            raise ValueError("[metadata] nova_url must be an address such as http://192.0.2.1:8775")
        if not group.shared_secret:
            raise ValueError("[metadata] nova_url needs shared_secret, which Nova checks its requests by")
        nova = NovaSettings(group.nova_url, group.shared_secret, group.nova_timeout)
    defaults = Defaults(group.availability_zone, _vendor_data(group.vendor_data) if group.vendor_data else None)
    return MetadataSettings(defaults, nova, group.rate, group.burst)


def _vendor_data(path: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"[metadata] vendor_data: cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"[metadata] vendor_data: {path} must hold a JSON object")
    return document


def _zone_transfer(conf: cfg.GroupAttr) -> TransferSettings | None:
    try:
        return transfer_settings.parse(
            listen=conf.transfer_listen,
            port=conf.transfer_port,
            secondaries=conf.transfer_secondary,
            keys=conf.transfer_key,
            name_servers=conf.transfer_name_server,
            hostmaster=conf.transfer_hostmaster,
            networks=conf.transfer_networks,
            catalog=conf.transfer_catalog,
        )
    except ValueError as error:
        raise ValueError(f"[dns] {error}") from None


def _dns_servers(texts: Iterable[str]) -> Servers:
    try:
        return parse_servers(texts)
    except ValueError as error:
        raise ValueError(f"[dns] server: {error}") from None


def _vlan_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,4})\s*:\s*([0-9]{1,4})\s*", text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not FIRST_VLAN <= first <= last <= LAST_VLAN:
        bounds = f"{FIRST_VLAN} <= FIRST <= LAST <= {LAST_VLAN}"
        raise ValueError(f"[vlan] range must be FIRST:LAST with {bounds}, not {text!r}")
    return first, last
