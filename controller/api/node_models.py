"""What agents send: their node, and its interfaces."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from controller.api.declared import MAX_REVISION
from controller.api.fields import Name, PhysicalNetwork, RequestModel, SnatAddress, Text, UnicastAddress, printable
from controller.store.specs import InterfaceReport, NodeSpec, ReportedInterface
from flows.model import DatapathType

MAX_INTERFACES = 4096
MAX_PROBLEMS = 64
MAX_PROBLEM = 1000  # characters
MAX_OFPORT = 0xFFFFFEFF  # OpenFlow 1.4: OFPP_MAX is 0xffffff00, which no port has

Problem = Annotated[
    str,
    StringConstraints(max_length=MAX_PROBLEM),
    AfterValidator(printable),
    Field(json_schema_extra={"format": "printable"}),
]


class NodePut(RequestModel):
    datapath_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{16}$")]
    physical_networks: Annotated[list[PhysicalNetwork], Field(max_length=64)] = []
    snat_addresses: Annotated[dict[PhysicalNetwork, SnatAddress], Field(max_length=64)] = {}
    tunnel_address: UnicastAddress | None = None
    versions: Annotated[dict[Name, Text], Field(max_length=16)] = {}
    datapath_type: Annotated[
        DatapathType,
        Field(description="An older agent does not send it: the flows of its node stay those of `netdev`, as before."),
    ] = DatapathType.NETDEV
    problems: Annotated[
        list[Problem],
        Field(max_length=MAX_PROBLEMS, description="What does not work on the node itself, one line each."),
    ] = []

    def spec(self, name: str) -> NodeSpec:
        return NodeSpec(
            name=name,
            datapath_id=int(self.datapath_id, 16),
            physical_networks=tuple(dict.fromkeys(self.physical_networks)),
            snat_addresses=self.snat_addresses,
            tunnel_address=self.tunnel_address,
            versions=self.versions,
            datapath_type=self.datapath_type,
            problems=tuple(dict.fromkeys(self.problems)),
        )


class InterfaceIn(RequestModel):
    """What Open vSwitch says of an interface. Anybody on the node can write that, so it is not a reason to refuse the
    report: what cannot be used is answered with `refused`, and the other interfaces are taken.
    """

    iface_id: Annotated[str, StringConstraints(max_length=255)]
    name: Annotated[str, StringConstraints(max_length=255)] = ""
    ofport: int | None = None
    mac: Annotated[str, StringConstraints(max_length=255)] | None = None

    def problem(self) -> str | None:
        """Why the interface cannot be used, or None."""
        if not self.iface_id or not self.iface_id.isprintable() or not self.name.isprintable():
            return "its iface-id or name is not printable text"
        if self.ofport is None or not 1 <= self.ofport <= MAX_OFPORT:
            return "Open vSwitch gave it no port number"
        return None


class FullZone(RequestModel):
    """A conntrack zone with as many connections as it may have."""

    zone: Annotated[int, Field(ge=1, le=0xFFFF)]
    limit: Annotated[int, Field(ge=1, le=0xFFFFFFFF)]


class InterfacesPut(RequestModel):
    serial: Annotated[int, Field(ge=0, le=MAX_REVISION)]
    uplinks: Annotated[
        dict[PhysicalNetwork, Annotated[int, Field(ge=1, le=MAX_OFPORT)]],
        Field(max_length=64),
    ] = {}
    interfaces: Annotated[list[InterfaceIn], Field(max_length=MAX_INTERFACES)] = []
    unclaimed: Annotated[
        list[Text], Field(max_length=MAX_INTERFACES, description="Names of those that say nothing of a port.")
    ] = []
    full_zones: Annotated[
        list[FullZone],
        Field(max_length=2 * MAX_INTERFACES, description="Conntrack zones with as many connections as they may have."),
    ] = []

    def refusals(self) -> dict[str, str]:
        """iface_id -> "refused: why", for the interfaces that `spec` leaves out."""
        problems = ((item.iface_id, item.problem()) for item in self.interfaces)
        return {iface_id: f"refused: {problem}" for iface_id, problem in problems if problem is not None}

    def spec(self) -> InterfaceReport:
        return InterfaceReport(
            serial=self.serial,
            uplinks=self.uplinks,
            interfaces=tuple(
                ReportedInterface(item.iface_id, item.ofport, item.name, (item.mac or "").lower())
                for item in self.interfaces
                if item.ofport is not None and item.problem() is None
            ),
        )


# Built once: building one costs milliseconds, using it microseconds.
NODE_PUT = TypeAdapter(NodePut)
INTERFACES_PUT = TypeAdapter(InterfacesPut)
