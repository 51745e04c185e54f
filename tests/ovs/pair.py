"""The simulated and the real switch side by side."""

from __future__ import annotations

from flows.compile import compile_node
from flows.conntrack import Conntrack
from flows.packet import Packet
from flows.protocols import ETH_IP
from flows.simulate import Result, State, Switch
from flows.snapshot import Snapshot
from tests.ovs.frames import decode, encode
from tests.ovs.real_switch import RealSwitch
from tests.simulate.cloud import EXTERNAL_UPLINK, UPLINK, VMS

NODE = "n1"
LOCAL = [vm for vm in VMS if vm.node == NODE]
OFPORTS = [vm.ofport for vm in LOCAL] + [UPLINK, EXTERNAL_UPLINK, 5]


class Pair:
    """The simulated and the real switch, given the same frames."""

    def __init__(self, real: RealSwitch, snapshot: Snapshot) -> None:
        self.real = real
        self.simulated = Switch(compile_node(snapshot, NODE).flows())
        self.state = State(Conntrack(userspace=True))

    def receive(self, made: Packet, in_port: int) -> tuple[Result, list[tuple[int, Packet]]]:
        """Asserts that both give the same, but for the source port of the node's SNAT, which each chooses itself."""
        result = self.simulated.receive(made, in_port, self.state)
        seen = self.real.receive(made, in_port, len(result.outputs))
        if result.state.learned != self.state.learned:
            self.real.forget_cached()
        self.state = result.state
        assert sorted(map(comparable, result.outputs), key=repr) == sorted(map(comparable, seen), key=repr), made
        return result, seen


def comparable(sent: tuple[int, Packet]) -> tuple[int, Packet]:
    port, seen = sent[0], decode(encode(sent[1]))
    if port != EXTERNAL_UPLINK or seen["eth_type"] != ETH_IP:
        return port, seen
    chosen = {name: 0 for name in ("udp_src", "tcp_src") if name in seen}
    return port, seen.but(**chosen)
