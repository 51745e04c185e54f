"""One owner on the wire: a node answers for a floating IP, for an IPv6 address of a VM, or as a network's gateway node,
only when the node that did before has confirmed that it stopped, or has had its time.

Everything else of a change goes at once. What has to wait is left out of what a node is sent, and out of the digest
that is stamped with it, until nothing stands against it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from flows.diff import Delta
from flows.digest import flow_digest
from flows.ir import Flow
from flows.model import Family
from flows.rules import Rule, cookie

HANDOVER: Final = 1.0
"""Seconds that the new owner of an address waits for the old one at most."""

HANDOVER_ELSEWHERE: Final = 5.0
"""The same where the old one is another controller's node. That one may die just then, and a third take over."""

# rule -> what its match has the address in, and the address's family
_CLAIMING: Final = {
    cookie(Rule.FLOATING_ARP) >> 32: ("arp_tpa", Family.IPV4),
    cookie(Rule.GATEWAY_NODE_ARP) >> 32: ("arp_tpa", Family.IPV4),
    cookie(Rule.PROXY_ND) >> 32: ("nd_target", Family.IPV6),
}


class Claim(NamedTuple):
    """An address on a network: what two nodes must not both answer for, whatever object it belongs to."""

    network_key: int
    address: int
    family: Family = Family.IPV4


def claim_of(flow: Flow) -> Claim | None:
    claiming = _CLAIMING.get(flow.cookie >> 32)
    if claiming is None:
        return None
    fields = {name: value for name, value, _ in flow.match}
    name, family = claiming
    return Claim(fields["metadata"], fields[name], family)


@dataclass(frozen=True, slots=True)
class _LettingGo:
    """Until its switch confirms `revision` a node may still answer; at `deadline` nobody waits for it any more."""

    revision: int
    deadline: float


class Claims:
    """Which node has which claim. Nothing here waits or sends; times are those of a clock that only goes forward."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Claim, Flow]] = {}  # what the nodes' programs say
        self._withheld: dict[str, dict[Claim, int]] = {}  # of these, not sent yet; with the revision that brought it
        self._sent: dict[str, dict[Claim, int]] = {}  # of these, sent with a revision that is not confirmed yet
        self._letting_go: dict[Claim, dict[str, _LettingGo]] = {}

    # changes

    def begin(self, node: str, flows: Iterable[Flow]) -> None:
        """A node's program at the start of the controller. Its switch may hold anything."""
        self._held[node] = {claim: flow for flow in flows if (claim := claim_of(flow)) is not None}

    def drop(self, node: str) -> None:
        """The node is gone."""
        for of_nodes in (self._held, self._withheld, self._sent):
            of_nodes.pop(node, None)

    def change(
        self,
        deltas: Mapping[str, Delta],
        connected: Callable[[str], bool],
        first: int,
        revision: int,
        now: float,
        elsewhere: Collection[str] = (),
    ) -> dict[str, Delta]:
        """What of each node's change to `revision` is to be sent now. `first` is the oldest revision in it; `elsewhere`
        are the nodes of other controllers.
        """
        # all that is given up before all that is taken: two addresses may change places
        gone = {}
        for node, delta in deltas.items():
            until = now + (HANDOVER_ELSEWHERE if node in elsewhere else HANDOVER) if connected(node) else None
            gone[node] = self._give_up(node, delta, revision, until)
        sent = {}
        for node, delta in deltas.items():
            kept = self._take(node, delta, first, revision, now)
            digest = self.digest(node, delta.digest)
            if kept is not delta.upserts or gone[node] is not delta.deletes or digest != delta.digest:
                delta = replace(delta, upserts=kept, deletes=gone[node], digest=digest)
            sent[node] = delta
        return sent

    def _give_up(self, node: str, delta: Delta, revision: int, until: float | None) -> tuple[Flow, ...]:
        """`until`: when nobody waits for it any more; None when nobody does at all."""
        never_sent = []
        for flow in delta.deletes:
            claim = claim_of(flow)
            if claim is None:
                continue
            self._held.get(node, {}).pop(claim, None)
            self._sent.get(node, {}).pop(claim, None)
            if self._withheld.get(node, {}).pop(claim, None) is not None:
                never_sent.append(flow)
            elif until is not None:
                self._letting_go.setdefault(claim, {})[node] = _LettingGo(revision, until)
        return tuple(flow for flow in delta.deletes if flow not in never_sent) if never_sent else delta.deletes

    def _take(self, node: str, delta: Delta, first: int, revision: int, now: float) -> tuple[Flow, ...]:
        waiting = []
        for flow in delta.upserts:
            claim = claim_of(flow)
            if claim is None:
                continue
            known = self._held.setdefault(node, {})
            withheld = self._withheld.get(node, {})
            replaces = claim in known and claim not in withheld
            known[claim] = flow
            if not replaces and self._contested(node, claim, now):
                self._withheld.setdefault(node, {}).setdefault(claim, first)
                waiting.append(flow)
            else:
                withheld.pop(claim, None)
                self._sent.setdefault(node, {})[claim] = revision
                # it has it again: that it gave it up is over
                self._letting_go.get(claim, {}).pop(node, None)
        return tuple(flow for flow in delta.upserts if flow not in waiting) if waiting else delta.upserts

    def _contested(self, node: str, claim: Claim, now: float) -> bool:
        others = self._letting_go.get(claim)
        return others is not None and any(
            other != node and letting_go.deadline > now for other, letting_go in others.items()
        )

    # progress

    def free(self, revision: int, now: float) -> dict[str, tuple[Flow, ...]]:
        """Node -> withheld flows that nothing stands against any more; they are taken for sent with `revision`."""
        if not self._letting_go and not self._withheld:
            return {}
        waited_for = {
            claim: {node: one for node, one in others.items() if one.deadline > now}
            for claim, others in self._letting_go.items()
        }
        self._letting_go = {claim: others for claim, others in waited_for.items() if others}
        freed = {}
        for node, withheld in self._withheld.items():
            claims = [claim for claim in withheld if not self._contested(node, claim, now)]
            for claim in claims:
                del withheld[claim]
                self._sent.setdefault(node, {})[claim] = revision
            if claims:
                freed[node] = tuple(self._held[node][claim] for claim in claims)
        self._withheld = {node: withheld for node, withheld in self._withheld.items() if withheld}
        return freed

    def deadline(self) -> float | None:
        """When `free` will have something at the latest."""
        deadlines = [
            max((one.deadline for one in self._letting_go.get(claim, {}).values()), default=0.0)
            for withheld in self._withheld.values()
            for claim in withheld
        ]
        return min(deadlines, default=None)

    def whole(self, node: str, revision: int) -> None:
        """The node is about to get its whole program, and nothing of it can be left out."""
        for claim in self._withheld.pop(node, {}):
            self._sent.setdefault(node, {})[claim] = revision

    def confirmed(self, node: str, revision: int, *, whole: bool = False) -> list[Claim]:
        """The node's switch holds all that was sent up to `revision`. The claims that this put on the wire: all that
        the node has if its `whole` program was sent.
        """
        for others in self._letting_go.values():
            letting_go = others.get(node)
            if letting_go is not None and letting_go.revision <= revision:
                del others[node]
        sent = self._sent.get(node, {})
        new = [claim for claim, with_ in sent.items() if with_ <= revision]
        for claim in new:
            del sent[claim]
        return [claim for claim in self._held.get(node, {}) if self.holds(node, claim)] if whole else new

    # questions

    def digest(self, node: str, digest: int) -> int:
        """The digest of what the node is sent, when that of its whole program is `digest`."""
        for claim in self._withheld.get(node, {}):
            digest ^= flow_digest(self._held[node][claim])
        return digest

    def unclaimed(self, node: str) -> int | None:
        """The first revision that brought the node a claim which is withheld."""
        return min(self._withheld.get(node, {}).values(), default=None)

    def holds(self, node: str, claim: Claim) -> bool:
        """The node's switch is known to answer for the address."""
        return (
            claim in self._held.get(node, {})
            and claim not in self._withheld.get(node, {})
            and claim not in self._sent.get(node, {})
        )
