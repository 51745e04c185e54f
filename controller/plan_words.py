"""What a plan says of flows: in ovs-ofctl's spelling, and behind that in words why they are there."""

from __future__ import annotations

from collections.abc import Mapping

from flows.ir import Flow
from flows.rules import decode_cookie
from flows.snapshot import Snapshot
from flows.spelling import flow_text


class Words:
    """Names objects as they are in the last of these snapshots that has them."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._snapshots = snapshots
        self._floating_ips = {one.key: str(one.address) for it in snapshots for one in it.floating_ips.values()}
        self._groups = {one.key: one.name for it in snapshots for one in it.security_groups.values()}

    def of(self, flow: Flow) -> str:
        """A line that `ovs-ofctl add-flows` takes: what is behind # is a comment."""
        rule, key = decode_cookie(flow.cookie) or (None, 0)
        if rule is None:
            return flow_text(flow)
        about = f" of {rule.about.replace('_', ' ')} {self._name(rule.about, key)}" if rule.about else ""
        return f"{flow_text(flow)} # {rule.table.name.lower()}, {rule.name.lower()}{about}: {rule.doc}"

    def _name(self, about: str, key: int) -> str:
        match about:
            case "port":
                found = self._port(key)
            case "network":
                found = self._network(key)
            case "floating_ip":
                found = self._floating_ips.get(key)
            case "security_group":
                found = self._groups.get(key)
            case "security_rule":
                found = self._group_of(key)
            case _:
                found = None
        # a name is its owner's choice, and this is a line
        return "".join(char for char in found or str(key) if char.isprintable())

    def _port(self, key: int) -> str | None:
        for snapshot in reversed(self._snapshots):
            if (port := snapshot.ports.get(snapshot.ports_by_key.get(key, ""))) is not None:
                return port.name or port.hostname or port.id
        return None

    def _network(self, key: int) -> str | None:
        for snapshot in reversed(self._snapshots):
            if (network := snapshot.networks.get(snapshot.networks_by_key.get(key, ""))) is not None:
                return network.name or network.id
        return None

    def _group_of(self, key: int) -> str | None:
        for snapshot in reversed(self._snapshots):
            by_rule: Mapping[int, str] = snapshot.groups_by_rule
            if (group := snapshot.security_groups.get(by_rule.get(key, ""))) is not None:
                return f"{key} (group {group.name})"
        return None
