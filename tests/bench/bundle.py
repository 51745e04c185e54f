"""Ten thousand flows in one bundle: from the delta to the switch's word that all of it is committed."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.ovs.test_session import Setup

FLOWS = 10_000
RUNS = 5


def run() -> Iterator[Figure]:
    setup = Setup(f"tls{os.getpid()}", Path(tempfile.mkdtemp(prefix="tl-bundle-")))
    try:
        server = setup.serve()
        rates = []
        for _ in range(RUNS):
            answer = server.flows(*range(1, FLOWS + 1))
            rates.append(FLOWS / answer["seconds"])
            assert len(setup.installed()) == FLOWS
            server.flows()
        print(f"   flows a second: {', '.join(f'{rate:.0f}' for rate in rates)}")
        yield Figure("bundle_flows_per_s", statistics.median(rates), "1/s")
    finally:
        setup.close()
