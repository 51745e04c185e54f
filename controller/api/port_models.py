"""Request bodies about ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, TypeAdapter

from controller.api import policy_fields
from controller.api.dhcp_option_models import DhcpOptions, option_specs
from controller.api.fields import (
    AnyAddress,
    InterfaceName,
    Mac,
    MachineName,
    NodeName,
    ObjectId,
    ProjectId,
    RequestModel,
    Text,
    UpdateModel,
    Uuid,
)
from controller.store.specs import FixedIpSpec, PortSpec

MAX_PORTS = 1000


class FixedIpIn(RequestModel):
    address: AnyAddress | None = None
    subnet_id: ObjectId | None = None

    def spec(self) -> FixedIpSpec:
        return FixedIpSpec(self.address, self.subnet_id)


FixedIps = Annotated[list[FixedIpIn], Field(max_length=16)]


class _PortFields(RequestModel):
    """What is the same for all ports of a machine."""

    name: Text = ""
    hostname: MachineName = ""
    project_id: ProjectId | None = None
    device_id: Text = ""
    node: NodeName | None = None
    dhcp_options: DhcpOptions = []
    security_groups: policy_fields.SecurityGroups = None
    port_security: bool = True
    qos: policy_fields.QosIn | None = None

    def _common(self, network_id: str, project_id: str | None) -> PortSpec:
        return PortSpec(
            network_id=network_id,
            name=self.name,
            hostname=self.hostname,
            project_id=project_id,
            device_id=self.device_id,
            node=self.node,
            dhcp_options=option_specs(self.dhcp_options),
            security_groups=policy_fields.groups(self.security_groups),
            port_security=self.port_security,
            qos=policy_fields.qos(self.qos),
        )


class DevicePortsCreate(_PortFields):
    """The ports of a machine that names no network."""

    device_id: Annotated[Text, StringConstraints(min_length=1)]

    def template(self) -> PortSpec:
        """Network and project are settled elsewhere."""
        return self._common("", None)


class PortCreate(_PortFields):
    network_id: ObjectId
    mac: Mac | None = None
    fixed_ips: FixedIps = []
    id: Uuid | None = None
    address_pairs: policy_fields.AddressPairs = []
    interface_name: InterfaceName | None = None

    def spec(self, project_id: str | None) -> PortSpec:
        """`project_id` is the owner the caller has settled."""
        return replace(
            self._common(self.network_id, project_id),
            mac=self.mac,
            fixed_ips=tuple(item.spec() for item in self.fixed_ips),
            id=self.id,
            address_pairs=policy_fields.pairs(self.address_pairs),
            interface_name=self.interface_name,
        )


class PortBulk(RequestModel):
    ports: Annotated[list[PortCreate], Field(min_length=1, max_length=MAX_PORTS)]


class PortUpdate(UpdateModel):
    conversions: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "fixed_ips": lambda items: tuple(item.spec() for item in items),
        "dhcp_options": option_specs,
        "security_groups": policy_fields.groups,
        "address_pairs": policy_fields.pairs,
        "qos": policy_fields.qos,
    }

    name: Text = ""
    hostname: MachineName = ""
    device_id: Text = ""
    node: NodeName | None = None
    interface_name: InterfaceName | None = None
    fixed_ips: FixedIps = []
    dhcp_options: DhcpOptions = []
    security_groups: policy_fields.SecurityGroups = None
    port_security: bool = True
    address_pairs: policy_fields.AddressPairs = []
    qos: policy_fields.QosIn | None = None


# Built once: building one costs milliseconds, using it microseconds.
PORT_CREATE = TypeAdapter(PortCreate)
PORT_BULK = TypeAdapter(PortBulk)
DEVICE_PORTS_CREATE = TypeAdapter(DevicePortsCreate)
PORT_UPDATE = TypeAdapter(PortUpdate)
