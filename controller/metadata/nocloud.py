"""The files of cloud-init's NoCloud datasource (`ds=nocloud;s=http://169.254.169.254/`), at the root of the tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from controller import injection
from controller.metadata.documents import BYTES, Document, as_json, text
from controller.metadata.machine import Machine


def _meta_data(machine: Machine) -> Document:
    return as_json(
        {
            "instance-id": machine.id,
            "local-hostname": machine.hostname,
            "public-keys": list(machine.given.public_keys.values()),
        }
    )


def _vendor_data(machine: Machine) -> Document:
    """What OpenStack's vendor data has for cloud-init, which does not understand the rest."""
    config = machine.vendor_data.get("cloud-init", "")
    return text(config) if isinstance(config, str) else as_json(config)


# JSON is YAML, which is what it asks for
FILES: Final[Mapping[str, Callable[[Machine], Document]]] = {
    "meta-data": _meta_data,
    "user-data": lambda machine: Document(machine.given.user_data or b"", BYTES),
    "vendor-data": _vendor_data,
    "network-config": lambda machine: as_json(injection.network_config(machine.interfaces)),
}
