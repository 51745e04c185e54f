"""`python -m tests.bench [NAME ...]`: runs benches, one after the other, and prints their figures last."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator

from tests.bench import (
    bridges,
    bundle,
    dhcp,
    dns,
    floating,
    flood,
    groups,
    ha,
    leases,
    metadata,
    nat,
    page,
    peers,
    perfdhcp,
    plug,
    plugins,
    policy,
    ports,
    restart,
    rules,
    scale,
)
from tests.bench.figures import Figure

BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "ports": ports.run,
    "plug": plug.run,
    "plugins": plugins.run,
    "restart": restart.run,
    "ha": ha.run,
    "bundle": bundle.run,
    "bridges": bridges.run,
    "dhcp": dhcp.run,
    "dns": dns.run,
    "leases": leases.run,
    "perfdhcp": perfdhcp.run,
    "scale": scale.run,
    "nat": nat.run,
    "floating": floating.run,
    "policy": policy.run,
    "groups": groups.run,
    "rules": rules.run,
    "flood": flood.run,
    "metadata": metadata.run,
    "page": page.run,
    "peers": peers.run,
}


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    gc.freeze()  # that this process goes through all its modules is not to be measured
    figures: list[Figure] = []
    for name in names or BENCHES:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        for figure in BENCHES[name]():
            figures.append(figure)
            print(f"   {figure.line()}", flush=True)
        print(f"   took {time.monotonic() - began:.0f} s", flush=True)
    print()
    for figure in figures:
        print(figure.line())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
