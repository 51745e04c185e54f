"""To whom zones are handed out, and how: `[dns] transfer_...` of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from controller.dns.tsig import Key, parse_key
from controller.store.dns_names import zone_name

DNS_PORT: Final = 53

_SECONDARY = re.compile(r"(?:\[(?P<six>[^\]\s]+)\]|(?P<four>[^\s:]+))(?::(?P<port>[0-9]{1,5}))?(?:\s+(?P<key>\S+))?")


@dataclass(frozen=True, slots=True)
class Secondary:
    """An outside name server. What it asks and is told is signed when it has a `key`; `port` is where it hears."""

    address: IPv4Address | IPv6Address
    port: int = DNS_PORT
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """`name_servers` are the NS records of all zones, `hostmaster` the mailbox of their SOA, as names.

    `networks`: also the domains of networks and the addresses in them. `catalog`: the name of the zone that lists all
    others (RFC 9432).
    """

    listen: str
    port: int
    secondaries: tuple[Secondary, ...]
    name_servers: tuple[str, ...]
    hostmaster: str
    networks: bool = False
    catalog: str | None = None

    def secondary(self, address: str) -> Secondary | None:
        """The one with an address, as a socket tells it."""
        try:
            wanted = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        mapped = wanted.ipv4_mapped if isinstance(wanted, IPv6Address) else None
        return next((one for one in self.secondaries if one.address in (wanted, mapped)), None)


def parse(
    *,
    listen: str,
    port: int,
    secondaries: Iterable[str],
    keys: Iterable[str],
    name_servers: Iterable[str],
    hostmaster: str,
    networks: bool,
    catalog: str,
) -> TransferSettings | None:
    """None: nobody is handed anything. Raises ValueError, with a message that names the option."""
    if not listen:
        return None
    try:
        ip_address(listen)
    except ValueError:
        raise ValueError(f"transfer_listen: {listen!r} is no address") from None
    known = _keys(keys)
    servers = tuple(_name("transfer_name_server", text) for text in name_servers)
    if not servers:
        raise ValueError("transfer_name_server: a zone needs one at least, the name of a server that answers for it")
    found = tuple(_secondary(text, known) for text in secondaries)
    addresses = [one.address for one in found]
    for address in addresses:
        if addresses.count(address) > 1:
            raise ValueError(f"transfer_secondary: {address} is there twice")
    return TransferSettings(
        listen=listen,
        port=port,
        secondaries=found,
        name_servers=servers,
        hostmaster=_mailbox(hostmaster) if hostmaster else f"hostmaster.{servers[0]}",
        networks=networks,
        catalog=_name("transfer_catalog", catalog) if catalog else None,
    )


def _name(option: str, text: str) -> str:
    try:
        return zone_name(text)
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} {error}") from None


def _mailbox(text: str) -> str:
    """`user@host` as a name (RFC 1035, 8)."""
    user, at, host = text.partition("@")
    if not at or "." in user:
        raise ValueError("transfer_hostmaster: must be such as dns@example.net, without a dot before the @")
    return _name("transfer_hostmaster", f"{user}.{host}")


def _keys(texts: Iterable[str]) -> dict[str, Key]:
    found = {}
    for text in texts:
        try:
            key = parse_key(text)
        except ValueError as error:
            raise ValueError(f"transfer_key: {error}") from None
        found[text.partition(":")[0].strip().lower().removesuffix(".")] = key
    return found


def _secondary(text: str, keys: Mapping[str, Key]) -> Secondary:
    """`ADDRESS[:PORT] [KEY]`; an IPv6 address with a port stands in brackets."""
    match = _SECONDARY.fullmatch(text.strip())
    bare, _, rest = text.strip().partition(" ")
    if match is None and bare.count(":") > 1:  # IPv6 without a port
        match = _SECONDARY.fullmatch(f"[{bare}] {rest}".strip())
    wrong = f"transfer_secondary: {text!r} is not ADDRESS[:PORT] [KEY]"
    if match is None:
        raise ValueError(wrong)
    try:
        address = ip_address(match["six"] or match["four"])
    except ValueError:
        raise ValueError(wrong) from None
    port = int(match["port"] or DNS_PORT)
    if not 0 < port < 65536:
        raise ValueError(wrong)
    if match["key"] is None:
        return Secondary(address, port)
    key = keys.get(match["key"].lower().removesuffix("."))
    if key is None:
        raise ValueError(f"transfer_secondary: there is no transfer_key {match['key']}")
    return Secondary(address, port, key)
