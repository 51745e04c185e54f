"""A small client of the REST API, for the command line and for scripts.

It imports neither Ryu nor the store, so that a command starts fast. Objects go in and out as plain dictionaries: the
server validates them, and a field that a newer server adds shows up without a new client.
"""

from __future__ import annotations

from controller.client.access import Access
from controller.client.dns import Dns
from controller.client.errors import ApiError, ClientError, Unconfirmed, Unreachable, refusal_of
from controller.client.floating_ips import FloatingIps
from controller.client.networks import Networks
from controller.client.operating import LONGEST_POLL, Operating
from controller.client.ports import Capture, Ports
from controller.client.resources import Written
from controller.client.security_groups import SecurityGroups
from controller.client.transport import Object, Tls

__all__ = [
    "LONGEST_POLL",
    "ApiError",
    "Capture",
    "Client",
    "ClientError",
    "Object",
    "Tls",
    "Unconfirmed",
    "Unreachable",
    "Written",
    "refusal_of",
]


class Client(Networks, Ports, FloatingIps, SecurityGroups, Dns, Access, Operating):
    """A REST server, or several that do the same: `url` has their addresses, without the /v1, with commas between them.
    `token` may be empty for `health`. Threads may share it.

    Every method raises ApiError when the server refuses and Unreachable when there is no answer. Asked again, or of
    another server, is only what cannot have been done, as for being too much (429): a write whose answer was lost may
    have been.
    """
