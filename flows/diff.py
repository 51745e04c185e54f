"""What has to be sent so that a switch that holds one set of flows holds another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flows.ir import Flow, FlowKey, MeterConfig


@dataclass(frozen=True, slots=True)
class Delta:
    """`digest` is that of the whole target. An upsert adds a flow or replaces the one with its key.

    `meters` are there before the flows that use them, new or changed; the ids in `gone_meters` go after the last flow
    that used them, which would go with them.
    """

    upserts: tuple[Flow, ...]
    deletes: tuple[Flow, ...]
    digest: int
    meters: tuple[MeterConfig, ...] = ()
    gone_meters: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes or self.meters or self.gone_meters)

    def then(self, later: Delta) -> Delta:
        """One delta for two that follow each other."""
        upserts: dict[FlowKey, Flow] = {flow.key: flow for flow in self.upserts}
        deletes: dict[FlowKey, Flow] = {flow.key: flow for flow in self.deletes}
        for flow in later.deletes:
            upserts.pop(flow.key, None)
            deletes[flow.key] = flow
        for flow in later.upserts:
            deletes.pop(flow.key, None)
            upserts[flow.key] = flow
        meters = {meter.id: meter for meter in self.meters if meter.id not in later.gone_meters}
        meters |= {meter.id: meter for meter in later.meters}
        gone = dict.fromkeys((*self.gone_meters, *later.gone_meters)).keys() - {meter.id for meter in later.meters}
        return Delta(
            tuple(upserts.values()), tuple(deletes.values()), later.digest, tuple(meters.values()), tuple(sorted(gone))
        )


def diff(
    installed: Iterable[Flow],
    desired: Iterable[Flow],
    digest: int,
    *,
    meters_installed: Iterable[MeterConfig] = (),
    meters_desired: Iterable[MeterConfig] = (),
) -> Delta:
    """The delta from one set of flows and meters to another with this digest."""
    old = {flow.key: flow for flow in installed}
    new = {flow.key: flow for flow in desired}
    upserts = tuple(flow for key, flow in new.items() if old.get(key) != flow)
    deletes = tuple(flow for key, flow in old.items() if key not in new)
    old_meters = {meter.id: meter for meter in meters_installed}
    new_meters = {meter.id: meter for meter in meters_desired}
    meters = tuple(meter for id_, meter in new_meters.items() if old_meters.get(id_) != meter)
    return Delta(upserts, deletes, digest, meters, tuple(sorted(old_meters.keys() - new_meters.keys())))
