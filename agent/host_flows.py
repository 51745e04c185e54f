"""The flows in a physical network's bridge that let the node's NAT share the address of its host.

Answers to both come to the host's MAC. Those to a port that is for NAT go to br-int at once. ICMP answers and fragments
do not show whose they are: they go there as well, and what br-int does not know it gives back to the host. It does so
only by a flow of its own, so that without that flow they stay with the host.

The bridge stays without a controller and keeps its default flow, NORMAL. All of ours carry one mark in their cookies.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from agent import nics
from agent.config import AgentConfig
from agent.host_address import HostChoice
from agent.state import NOTHING, OvsState
from agent.wanted import peer_port
from flows.pipeline import HOST_SNAT_PORTS
from flows.rules import Rule, cookie

LOG = logging.getLogger(__name__)

# Upper half of the cookie of all that is ours in the bridge of a physical network; the lower half tells what is wanted.
MARK = 0x544C484F << 32
MARK_MASK = 0xFFFFFFFF << 32

_RUN_DIRECTORY = "/run/openvswitch"
_VERSIONS = ",".join(f"OpenFlow1{minor}" for minor in range(6))  # whatever of these the bridge takes
_TIMEOUT_S = 5
_RETRY_S = 0.5
_COOKIE = re.compile(r"cookie=(0x[0-9a-f]+)")
# echo reply, unreachable, time exceeded, parameter problem; not redirect, which br-int takes from nobody
_ICMP_ANSWERS = (0, 3, 11, 12)
# of the ports, as value and mask
_NAT_PORTS = f"{HOST_SNAT_PORTS[0]:#x}/{0xFFFF ^ HOST_SNAT_PORTS[0] ^ HOST_SNAT_PORTS[1]:#x}"


class SwitchError(Exception):
    """The switch did not answer, or refused; the text is what ovs-ofctl said."""


class SwitchHangs(SwitchError):
    """It did not answer in time, as while ovsdb-server is away."""


def wanted(address: IPv4Address, mac: str, patch: int, *, given_back: bool) -> tuple[str, ...]:
    """As ovs-ofctl takes them. `mac` is the host's, `patch` the port towards br-int, which has a flow to give back."""
    to_host = f"vlan_tci=0x0000/0x1fff,nw_dst={address}"  # with a tag it is an address of somebody else
    # Not by NORMAL: the bridge would learn the senders' MACs on the patch. The MAC may be the node's, as others learn
    # that one from what the VMs send.
    from_br_int = f"priority=300,in_port={patch},ip,{to_host},actions=mod_dl_dst:{mac},LOCAL"
    from_host = f"priority=300,in_port=LOCAL,ip,{to_host},actions=NORMAL"
    matches = [f"{protocol},{to_host},tp_dst={_NAT_PORTS}" for protocol in ("tcp", "udp")]
    if given_back:
        matches += [f"icmp,{to_host},icmp_type={kind}" for kind in _ICMP_ANSWERS]
        matches.append(f"ip,{to_host},ip_frag=yes")  # conntrack needs all parts to know the ports
    return (from_br_int, from_host, *(f"priority=200,{match},actions=output:{patch}" for match in matches))


def cookie_of(flows: Sequence[str]) -> int:
    """Another one for other flows: whether they are there is seen by it and their number."""
    return MARK | int.from_bytes(hashlib.blake2b("\n".join(flows).encode(), digest_size=4).digest())


class Switch:
    """ovs-ofctl on the management sockets of Open vSwitch, which are beside that of its database."""

    def __init__(self, ovsdb: str) -> None:
        kind, _, path = ovsdb.partition(":")
        default = os.environ.get("OVS_RUNDIR", _RUN_DIRECTORY)
        beside = [Path(path).parent] if kind == "unix" else []
        self._directories: list[Path] = [*beside, Path(default)]

    def socket(self, bridge: str) -> Path:
        paths = [directory / f"{bridge}.mgmt" for directory in self._directories]
        return next((path for path in paths if path.exists()), paths[0])

    def identity(self, bridge: str) -> tuple[int, int] | None:
        """Another one whenever ovs-vswitchd has started. None while it is not running, or has no such bridge."""
        try:
            status = self.socket(bridge).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def cookies(self, bridge: str, match: str) -> list[int]:
        """Of the flows that match. Raises SwitchError."""
        return [int(value, 16) for value in _COOKIE.findall(self._ofctl("dump-flows", bridge, match))]

    def change(self, bridge: str, lines: Sequence[str]) -> None:
        """As a file for `ovs-ofctl add-flows`. Raises SwitchError."""
        self._ofctl("add-flows", bridge, "-", text="\n".join(lines))

    def _ofctl(self, command: str, bridge: str, argument: str, text: str | None = None) -> str:
        line = ["ovs-ofctl", "-O", _VERSIONS, command, f"unix:{self.socket(bridge)}", argument]
        try:
            done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise SwitchHangs(str(error)) from error
        except OSError as error:
            raise SwitchError(str(error)) from error
        if done.returncode:
            raise SwitchError(" ".join(done.stderr.split()))
        return done.stdout


class HostFlows:
    """Use from one thread. `problems` are of the last `keep`, a line each."""

    def __init__(self, config: AgentConfig, choices: Sequence[HostChoice]) -> None:
        self._switch = Switch(config.ovsdb)
        self._integration_bridge = config.integration_bridge
        self._heartbeat = config.heartbeat_interval
        self._choices = choices
        self._watched = (*(choice.network.bridge for choice in choices), *((self._integration_bridge,) * bool(choices)))
        self._seen: object = None
        self._settled: object = None
        self._due = 0.0
        self._clean: set[str] = set()
        self.problems: tuple[str, ...] = ()

    def restarted(self) -> bool:
        """Open vSwitch has been started since the last `keep`: until the next one, answers to VMs go to the host, which
        ends their connections. Asked often, so it costs next to nothing.
        """
        now = self._identities()
        return None not in now and now != self._seen

    def keep(self, state: OvsState, addresses: Mapping[str, IPv4Address]) -> float:
        """Puts in place what is missing and takes away what is too many; seconds until it is to be looked at again."""
        self._remove_stale(state)
        if not self._choices:
            return self._heartbeat
        self._seen = self._identities()
        places = [self._place(choice, state, addresses) for choice in self._choices]
        situation = (self._seen, places)
        if situation == self._settled and time.monotonic() < self._due:
            return self._due - time.monotonic()
        problems, complete = [], True
        for place in places:
            try:
                complete = place is not None and self._set(*place) and complete
            except SwitchError as error:
                complete = False
                problems.append(f"flows for the host's address are not set: {error}")
                if isinstance(error, SwitchHangs):  # so it would for each bridge, and hold up the round
                    break
        self.problems = tuple(problems)
        self._settled = situation if complete else None
        self._due = time.monotonic() + self._heartbeat
        return self._heartbeat if complete else _RETRY_S

    def _identities(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(self._switch.identity, self._watched))

    def _place(
        self, choice: HostChoice, state: OvsState, addresses: Mapping[str, IPv4Address]
    ) -> tuple[str, IPv4Address, str, int] | None:
        """None while something of it is not known: then what is there stays."""
        address, mac = addresses.get(choice.network.name), nics.mac(choice.network.bridge)
        patch = state.interfaces.get(peer_port(choice.network), NOTHING).get("ofport")
        if address is None or mac is None or not isinstance(patch, int) or patch <= 0:
            return None
        return choice.network.bridge, address, mac, patch

    def _set(self, bridge: str, address: IPv4Address, mac: str, patch: int) -> bool:
        """False when br-int does not give back yet what is not for a VM."""
        returns = f"cookie={cookie(Rule.HOST_RETURN):#x}/{MARK_MASK:#x},ip,nw_dst={address}"
        given_back = bool(self._switch.cookies(self._integration_bridge, returns))
        flows = wanted(address, mac, patch, given_back=given_back)
        right = cookie_of(flows)
        present = self._switch.cookies(bridge, f"cookie={MARK:#x}/{MARK_MASK:#x}")
        if present != [right] * len(flows):
            LOG.info("%s: flows for the host's address %s, %sgiven back", bridge, address, "" if given_back else "not ")
            stale = sorted(set(present) - {right})
            added = [f"add cookie={right:#x},{flow}" for flow in flows]
            self._switch.change(bridge, [*added, *(f"delete cookie={each:#x}/-1" for each in stale)])
        return given_back

    def _remove_stale(self, state: OvsState) -> None:
        """What an earlier configuration has left, also in bridges that are no longer ours: once for each bridge."""
        kept = {*self._watched, self._integration_bridge}
        for bridge in state.bridges.keys() - kept - self._clean:
            try:
                if self._switch.cookies(bridge, f"cookie={MARK:#x}/{MARK_MASK:#x}"):
                    self._switch.change(bridge, [f"delete cookie={MARK:#x}/{MARK_MASK:#x}"])
                    LOG.info("%s: no flows for the host's address any more", bridge)
            except SwitchHangs as error:
                LOG.debug("%s: %s", bridge, error)
                return
            except SwitchError as error:
                LOG.debug("%s: %s", bridge, error)  # whoever's bridge it is: tried again with the next round
            else:
                self._clean.add(bridge)
