"""What a machine is called, from the name that its user gave it: by DHCP and by DNS alike."""

from __future__ import annotations

_MAX_LABEL = 63


def host_name(name: str) -> str:
    """A host name that a guest can take (Linux: 64 characters): of a longer one its first label.

    Of a label that is itself too long the first 2 and the last 60 characters, as in nova-network.
    """
    if len(name) > _MAX_LABEL:
        name = name.partition(".")[0]
    if len(name) > _MAX_LABEL:
        name = f"{name[:2]}-{name[-60:]}"
    return name
