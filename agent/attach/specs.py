"""What is asked for a container, what it got, and why it got nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

MOST_NAME = 255  # characters of a port's name
SEPARATOR = ":"
# of what a name is put together: a part with the separator in it would be taken for two
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Failure(IntEnum):
    """As CNI numbers them (its specification, "Error"; from 100 they are ours)."""

    CONTAINER_UNKNOWN = 3
    ENVIRONMENT = 4
    DECODING = 6
    CONFIGURATION = 7
    TRY_LATER = 11
    UNAVAILABLE = 50
    MISMATCH = 100
    REFUSED = 101
    HERE = 102


class AttachError(Exception):
    """It cannot be done; the text is one line for the operator."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Owner:
    """Which engine's network on which node an attachment is of: the beginning of its name."""

    engine: str
    network: str
    node: str

    @property
    def prefix(self) -> str:
        """Raises AttachError when the network's name is none."""
        if not _PART.fullmatch(self.network):
            raise AttachError(
                Failure.CONFIGURATION, "the network's name is none: a letter or digit, then these and _ . -"
            )
        return SEPARATOR.join((self.engine, self.network, self.node, ""))


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container. Its name is that of its port, which so needs no other memory."""

    owner: Owner
    container_id: str
    ifname: str

    @property
    def name(self) -> str:
        """Raises AttachError when there is no room for it, or a part of it is none."""
        if not _PART.fullmatch(self.container_id):
            raise AttachError(
                Failure.ENVIRONMENT, "the container's id is none: a letter or digit, then these and _ . -"
            )
        if not _DEVICE.fullmatch(self.ifname) or self.ifname in (".", ".."):
            raise AttachError(Failure.ENVIRONMENT, "the container's interface has a name that no device can have")
        name = f"{self.owner.prefix}{self.container_id}{SEPARATOR}{self.ifname}"
        if len(name) > MOST_NAME:
            raise AttachError(Failure.CONFIGURATION, f"{name}: a port's name has {MOST_NAME} characters at most")
        return name


@dataclass(frozen=True, slots=True)
class Wanted:
    """`network`: name or id. `addresses` and `mac` are chosen by the controller where none are given. `security_groups`
    None: the default one.
    """

    network: str
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    security_groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """`cidr` is ADDRESS/PREFIX."""

    cidr: str
    gateway: str | None


@dataclass(frozen=True, slots=True)
class Route:
    to: str
    via: str


@dataclass(frozen=True, slots=True)
class Attached:
    """`device` is the node's end, `device_mac` its MAC address."""

    port_id: str
    mac: str
    mtu: int
    device: str
    device_mac: str
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    name_servers: tuple[str, ...]
    search: tuple[str, ...]
