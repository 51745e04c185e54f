"""What may be the MAC address of a VM."""

from __future__ import annotations

import re

from controller.store.specs import Invalid

# the addresses that flows speak with (gateways, nodes); a port that had one could impersonate them
OWN_PREFIX = "02:54:4c"


def normal(mac: str, field: str = "mac") -> str:
    """Lower case with colons. Raises Invalid `mac_invalid` for what no VM may have."""
    digits = re.sub(r"[:.\-]", "", mac).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise Invalid("mac_invalid", f"{mac!r} is not a MAC address", field)
    normal = ":".join(digits[index : index + 2] for index in range(0, 12, 2))
    if int(digits[:2], 16) & 1 or int(digits, 16) == 0:
        raise Invalid("mac_invalid", f"{normal} is not a unicast address", field)
    if normal.startswith(OWN_PREFIX):
        raise Invalid("mac_invalid", f"{OWN_PREFIX}:* belongs to gateways and nodes", field)
    return normal
