"""What the API is given for machines, as `specs` says the rest.

The methods of `Store`. A machine is named by one of its ports: those of a project with one `device_id`, or a port
without one by itself. What it was given goes with its last port.

    get_metadata(port_id) -> MachineRecord
    update_metadata(port_id, changes: Mapping[str, Any], actor: str) -> Written[MachineRecord]
        changes: fields of MachineMetadata but `revision`
    set_password(port_id, password: str, actor: str) -> Written[MachineRecord]        once
    load_metadata(project_id: str | None, machine_id: str) -> MachineMetadata | None       None: it was given nothing

Errors beside those of `specs`:
    Conflict [409]  password_set
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class MachineMetadata:
    """`public_keys`: by name, as lines of authorized_keys. `vendor_data`: what the operator gives in place of that of
    the configuration. `password`: as the machine has told it, encrypted by itself. `revision`: of the last change.
    """

    public_keys: Mapping[str, str] = field(default_factory=dict)
    user_data: bytes | None = None
    vendor_data: Mapping[str, Any] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    availability_zone: str = ""
    instance_type: str = ""
    password: str | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """`port_ids`: the machine's ports, the oldest first."""

    project_id: str | None
    machine_id: str
    port_ids: tuple[str, ...]
    metadata: MachineMetadata
