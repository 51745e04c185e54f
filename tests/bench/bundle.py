"""Ten thousand flows in one bundle: from the delta to the switch's word that all is committed; plain and by TLS."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure
from tests.ovs.test_session import Server, Setup
from tests.pki import Pki

FLOWS = 10_000
RUNS = 5


def run() -> Iterator[Figure]:
    """In turn, so that what else the machine does is the same for both."""
    with ExitStack() as stack:
        pki = Pki(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tl-pki-"))) / "pki")
        servers: dict[str, tuple[Setup, Server]] = {}
        for name, tls in (("", None), ("_tls", (pki.controller(), pki.node("n1")))):
            directory = Path(tempfile.mkdtemp(prefix="tl-bundle-"))
            setup = stack.enter_context(Setup(f"tls{os.getpid()}{name.replace('_', '')}", directory, tls))
            servers[name] = (setup, setup.serve())
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(RUNS):
            for name, (setup, server) in servers.items():
                answer = server.flows(*range(1, FLOWS + 1))
                rates[name].append(FLOWS / answer["seconds"])
                assert len(setup.installed()) == FLOWS
                server.flows()
        for name, found in rates.items():
            print(f"   flows a second{name and ' by TLS'}: {', '.join(f'{rate:.0f}' for rate in found)}")
            yield Figure(f"bundle{name}_flows_per_s", statistics.median(found), "1/s")
