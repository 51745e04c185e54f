"""What has to be sent so that a switch that holds one set of flows holds another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flows.ir import Flow, FlowKey


@dataclass(frozen=True, slots=True)
class Delta:
    """`digest` is that of the whole target. An upsert adds a flow or replaces the one with its key."""

    upserts: tuple[Flow, ...]
    deletes: tuple[Flow, ...]
    digest: int

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)

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
        return Delta(tuple(upserts.values()), tuple(deletes.values()), later.digest)


def diff(installed: Iterable[Flow], desired: Iterable[Flow], digest: int) -> Delta:
    """The delta from one set of flows to another with this digest."""
    old = {flow.key: flow for flow in installed}
    new = {flow.key: flow for flow in desired}
    upserts = tuple(flow for key, flow in new.items() if old.get(key) != flow)
    deletes = tuple(flow for key, flow in old.items() if key not in new)
    return Delta(upserts, deletes, digest)
