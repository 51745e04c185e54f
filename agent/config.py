"""The agent's configuration: an oslo.config INI file, checked as a whole before anything is touched."""

from __future__ import annotations

import hashlib
import math
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from urllib.parse import urlsplit

from oslo_config import cfg

from agent.options import GROUPS

DEFAULT_FILE = "/etc/trunkline/trunkline-agent.conf"
# In place of an address for NAT: the host's own.
HOST = "host"

# `br-<name>` is a network device, and those have at most 15 characters (IFNAMSIZ in linux/if.h, with its final zero).
_PHYSICAL_NETWORK = re.compile(r"[A-Za-z0-9_-]{1,12}")
_DEVICE = re.compile(r"[^\s/:]{1,15}")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_DATAPATH_ID = re.compile(r"[0-9a-f]{16}")
_OVSDB = re.compile(r"unix:/\S+|(tcp|ssl):\S+:\d+")


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """`nic` is None when somebody else adds the uplink (a bond, say) to the bridge."""

    name: str
    nic: str | None

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Absolute paths of PEM files. `api_ca` is for https:, `ca` for ssl:. Open vSwitch compares no names, so
    `ca` must have signed none but our own.
    """

    certificate: str
    key: str
    ca: str
    api_ca: str


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`api_token` is "" where the certificate says who asks.

    Times: `heartbeat_interval` in seconds, `inactivity_probe` in milliseconds. Limits are connections, 0 is none;
    `metadata_rate` is requests a second, 0 is any, `metadata_burst` so many at once.

    `snat_addresses`: by physical network an address, FIRST-LAST, `host` or `host:ADDRESS`.
    """

    node: str
    datapath_id: str
    controllers: tuple[str, ...]
    api_urls: tuple[str, ...]
    api_token: str
    physical_networks: tuple[PhysicalNetwork, ...] = ()
    snat_addresses: tuple[tuple[str, str], ...] = ()
    tls: Tls | None = None
    ovsdb: str = "unix:/run/openvswitch/db.sock"
    integration_bridge: str = "br-int"
    datapath_type: str = "system"
    conntrack_limit: int = 65536
    snat_share: int = 16384
    snat_conntrack_limit: int = 1048576
    service_namespace: str = "tl-service"
    metadata_rate: float = 20.0
    metadata_burst: int = 200
    socket: str = "/run/trunkline/agent.sock"
    plug_token_file: str = ""
    heartbeat_interval: float = 10.0
    inactivity_probe: int = 10000
    log_format: str = "console"
    log_level: str = "INFO"


def default_datapath_id(node: str) -> str:
    """A datapath-id that a node keeps for life: 16 hexadecimal digits, never all zero."""
    digest = hashlib.blake2b(node.encode(), digest_size=8).hexdigest()
    return digest if int(digest, 16) else "0" * 15 + "1"


def load(arguments: Sequence[str]) -> AgentConfig:
    """The configuration that the command line names.

    Raises ConfigError for an unknown option or a bad value; SystemExit for a bad command line (argparse).
    """
    try:
        conf = _parsed(arguments)
        for path in (*(conf.config_file or ()), *_in_directories(conf.config_dir or ())):
            _refuse_unknown(path)
        return _checked(conf)
    except (cfg.Error, cfg.ParseError, ValueError, OSError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


def sources(arguments: Sequence[str]) -> tuple[Path, ...]:
    """Files and directories that `load` reads. None of a configuration that cannot be used."""
    try:
        conf = _parsed(arguments)
    except (cfg.Error, cfg.ParseError, ValueError, OSError):
        return ()
    files, directories = conf.config_file or (), conf.config_dir or ()
    return tuple(map(Path, (*files, *directories, *_in_directories(directories))))


def _parsed(arguments: Sequence[str]) -> cfg.ConfigOpts:
    """Not checked. Raises what oslo.config raises."""
    conf = cfg.ConfigOpts()
    for group, options in GROUPS.items():
        conf.register_opts(options, group=group)
    conf(
        list(arguments),
        project="trunkline",
        prog="trunkline-agent",
        default_config_files=[DEFAULT_FILE] if Path(DEFAULT_FILE).exists() else [],
    )
    return conf


def _in_directories(directories: Iterable[str]) -> Iterable[str]:
    """The files that oslo.config takes from there."""
    return (str(path) for directory in directories for path in sorted(Path(directory).glob("*.conf")))


def _refuse_unknown(path: str) -> None:
    """oslo.config itself passes over names it does not know: a typing error would go unseen."""
    sections: dict[str, dict[str, object]] = {}
    cfg.ConfigParser(path, sections).parse()
    for section, entries in sections.items():
        if section not in GROUPS and (section != "DEFAULT" or entries):
            raise ConfigError(f"{path}: unknown section [{section}]; known: {', '.join(sorted(GROUPS))}")
        known = {option.name for option in GROUPS.get(section, ())}
        for name in entries:
            if name not in known:
                raise ConfigError(f"{path}: unknown option '{name}' in [{section}]; known: {', '.join(sorted(known))}")


def _checked(conf: cfg.ConfigOpts) -> AgentConfig:
    agent = conf.agent
    for option in GROUPS["agent"]:
        if isinstance(agent[option.dest], float) and not math.isfinite(agent[option.dest]):
            raise ConfigError(f"{option.name} must be a number")  # "nan" is neither less nor more than any bound
    node = _matching("node", agent.node or socket.gethostname(), _NODE)
    networks = tuple(_physical_network(text) for text in agent.physical_network)
    _distinct("physical_network", (network.name for network in networks))
    _distinct("physical_network", (network.nic for network in networks if network.nic is not None))
    integration_bridge = _matching("integration_bridge", agent.integration_bridge, _DEVICE)
    if integration_bridge in {network.bridge for network in networks}:
        raise ConfigError(f"integration_bridge '{integration_bridge}' is also the bridge of a physical network")
    controllers = _some("controller", agent.controller, _controller)
    api_urls = _some("api_url", agent.api_url, _api_url)
    tls = _tls(agent.certificate, agent.key, agent.ca, agent.api_ca)
    if tls is None and any(target.startswith("ssl:") for target in controllers):
        raise ConfigError("controller: ssl: needs certificate, key and ca: `trunkline pki node` makes all three")
    certified = tls is not None and all(url.startswith("https:") for url in api_urls)
    return AgentConfig(
        node=node,
        ovsdb=_matching("ovsdb", agent.ovsdb, _OVSDB),
        integration_bridge=integration_bridge,
        datapath_type=agent.datapath_type,
        datapath_id=_datapath_id(agent.datapath_id or default_datapath_id(node)),
        physical_networks=networks,
        controllers=controllers,
        api_urls=api_urls,
        api_token=_token(agent.api_token, needed=not certified),
        tls=tls,
        snat_addresses=_snat_addresses(agent.snat_address, {network.name for network in networks}),
        conntrack_limit=agent.conntrack_limit,
        snat_share=agent.snat_share,
        snat_conntrack_limit=agent.snat_conntrack_limit,
        service_namespace=_matching("service_namespace", agent.service_namespace, _NAMESPACE),
        metadata_rate=agent.metadata_rate,
        metadata_burst=agent.metadata_burst,
        socket=_path("socket", agent.socket),
        plug_token_file=_path("plug_token_file", agent.plug_token_file),
        heartbeat_interval=agent.heartbeat_interval,
        inactivity_probe=agent.inactivity_probe,
        log_format=conf.logging.format,
        log_level=conf.logging.level,
    )


def _matching(option: str, text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise ConfigError(f"{option}: '{text}' is not valid, it must match {pattern.pattern}")
    return text


def _distinct(option: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{option}: '{name}' is given twice")
        seen.add(name)


def _some(option: str, texts: Sequence[str], check: Callable[[str], str]) -> tuple[str, ...]:
    """At least one value; a value given twice counts once."""
    if not texts:
        raise ConfigError(f"{option} is missing in [agent]: give it at least once")
    return tuple(dict.fromkeys(check(text) for text in texts))


def _physical_network(text: str) -> PhysicalNetwork:
    name, _, nic = text.partition(":")
    _matching("physical_network", name, _PHYSICAL_NETWORK)
    return PhysicalNetwork(name, _matching("physical_network", nic, _DEVICE) if nic else None)


def _datapath_id(text: str) -> str:
    datapath_id = _matching("datapath_id", text.lower(), _DATAPATH_ID)
    if not int(datapath_id, 16):
        raise ConfigError("datapath_id: Open vSwitch takes no datapath-id of zeros only")
    return datapath_id


def _controller(text: str) -> str:
    kind, _, rest = text.partition(":")
    address, _, port = rest.rpartition(":")
    if kind not in ("tcp", "ssl") or not _is_address(address.strip("[]")) or not _is_port(port):
        raise ConfigError(f"controller: '{text}' is not valid, it must be tcp:ADDRESS:PORT or ssl:ADDRESS:PORT")
    return text


def _api_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
        raise ConfigError(f"api_url: '{text}' is not valid, it must be http://HOST:PORT or https://HOST:PORT")
    _ = url.port  # raises ValueError when it is none
    return text.rstrip("/")


def _tls(certificate: str | None, key: str | None, ca: str | None, api_ca: str | None) -> Tls | None:
    if not any((certificate, key, ca, api_ca)):
        return None
    files = {"certificate": certificate, "key": key, "ca": ca, "api_ca": api_ca or ca}
    for option, path in files.items():
        if not path:
            raise ConfigError(f"{option} is missing in [agent]: certificate, key and ca belong together")
        if not Path(path).is_absolute():  # Open vSwitch would look for it elsewhere
            raise ConfigError(f"{option}: '{path}' must be an absolute path")
        with Path(path).open("rb"):
            pass
    return Tls(*(str(path) for path in files.values()))


def _path(option: str, text: str) -> str:
    if text and not Path(text).is_absolute():
        raise ConfigError(f"{option}: '{text}' must be an absolute path")
    return text


def _token(text: str | None, *, needed: bool) -> str:
    if not text and not needed:
        return ""
    if not text:
        raise ConfigError("api_token is missing in [agent]")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError("api_token: only printable ASCII characters without spaces fit into a request")
    return text


def _snat_addresses(texts: Sequence[str], names: set[str]) -> tuple[tuple[str, str], ...]:
    addresses: dict[str, str] = {}
    for text in texts:
        name, _, choice = text.partition(":")
        if name not in names:
            raise ConfigError(f"snat_address: '{text}' is for a physical network that is not configured")
        if name in addresses:
            raise ConfigError(f"snat_address: '{name}' is given twice")
        try:
            addresses[name] = _snat_choice(choice)
        except ValueError as error:
            forms = "PHYSICAL_NETWORK:ADDRESS, :FIRST-LAST, :CIDR, :host or :host:ADDRESS"
            raise ConfigError(f"snat_address: '{text}' is not {forms}: {error}") from None
    return tuple(addresses.items())


def _snat_choice(text: str) -> str:
    """An address, FIRST-LAST, `host`, or `host:` and an address. Raises ValueError."""
    if text == HOST:
        return text
    if text.startswith(f"{HOST}:"):
        return f"{HOST}:{_host(IPv4Address(text.removeprefix(f'{HOST}:')))}"
    if "/" in text:
        cidr = IPv4Network(text)
        first, last = cidr[0], cidr[-1]
    else:
        start, dash, end = text.partition("-")
        first = IPv4Address(start.strip())
        if not dash:
            return str(_host(first))
        last = IPv4Address(end.strip())
    if first > last:
        raise ValueError(f"{first} is behind {last}")
    return f"{_host(first)}-{_host(last)}"


def _host(address: IPv4Address) -> IPv4Address:
    """The controller takes no others."""
    if address.is_multicast or address.is_unspecified or address.is_loopback or int(address) >> 28 == 15:
        raise ValueError(f"{address} is not the address of a host")
    return address


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536
