"""Single addresses and ranges that nobody is to be given: added to what a subnet has reserved, or taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from netaddr import IPSet

from controller.store import ipam, networks
from controller.store.address_specs import MOST_RESERVED
from controller.store.journal import Transaction
from controller.store.network_loader import load_networks
from controller.store.specs import AddressRange, Invalid, NetworkRecord, NotFound, SubnetSpec


def reserve(tx: Transaction, network_id: str, spans: Sequence[AddressRange]) -> None:
    """Whoever has one of them keeps it. Raises NotFound `network_unknown`, Invalid `address_outside_subnet` or
    `range_invalid`.
    """
    _change(tx, network_id, spans, reserved=True)


def unreserve(tx: Transaction, network_id: str, spans: Sequence[AddressRange]) -> None:
    """Raises as `reserve`. One that is not reserved is no error."""
    _change(tx, network_id, spans, reserved=False)


def missing(subnet: SubnetSpec, span: AddressRange) -> bool:
    """Whether part of the range is not reserved."""
    return not ipam.address_set([span]).issubset(ipam.address_set(subnet.reserved))


def subnet_with(record: NetworkRecord, span: AddressRange) -> SubnetSpec:
    """The subnet that a range is part of. Raises Invalid `address_outside_subnet`."""
    for subnet in record.spec.subnets:
        if span.first in subnet.cidr and span.last in subnet.cidr:
            return subnet
    what = span.first if span.first == span.last else span
    cidrs = ", ".join(str(subnet.cidr) for subnet in record.spec.subnets)
    raise Invalid("address_outside_subnet", f"{what} is not in {cidrs}", "address")


def _change(tx: Transaction, network_id: str, spans: Sequence[AddressRange], *, reserved: bool) -> None:
    record = next(iter(load_networks(tx.connection, [network_id])), None)
    if record is None:
        raise NotFound("network_unknown", f"there is no network {network_id}")
    subnets = {subnet.id: subnet for subnet in record.spec.subnets}
    asked: dict[str | None, list[AddressRange]] = {}
    for span in spans:
        asked.setdefault(subnet_with(record, span).id, []).append(span)
    for id_, some in asked.items():
        before, change = ipam.address_set(subnets[id_].reserved), ipam.address_set(some)
        after = before | change if reserved else before - change
        subnets[id_] = replace(subnets[id_], reserved=_ranges(after))
    for subnet in subnets.values():
        if len(subnet.reserved) > MOST_RESERVED:
            message = f"{subnet.cidr} would have {len(subnet.reserved)} reserved ranges, and may have {MOST_RESERVED}"
            raise Invalid("range_invalid", message, "address")
    networks.update_network(tx, network_id, {"subnets": tuple(subnets.values())})


def _ranges(addresses: IPSet) -> tuple[AddressRange, ...]:
    return tuple(AddressRange(IPv4Address(part.first), IPv4Address(part.last)) for part in addresses.iter_ipranges())
