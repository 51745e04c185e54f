"""How long what is started anew for each command takes: the CNI plugin and the command line, start included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from etc.lab import netns
from etc.lab.control import member_token
from etc.lab.lab import Lab
from tests.bench.figures import Figure, median_ms, spread
from tests.bench.ports import make_network
from tests.netns.cni_caller import Runtime

SAMPLES = 20
ADDS = 10
NAMESPACE = "bench-pod"


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, projects=("bench",), open_groups=True) as lab:
        lab.wait_connected()
        make_network(lab, "plug", 203)
        token = lab.directory / "plug.token"
        token.write_text(member_token("bench"))
        conf = {
            "cniVersion": "1.1.0",
            "name": "plug",
            "type": "trunkline-cni",
            "tokenFile": str(token),
            "socket": str(lab.nodes[0].socket),
        }
        runtime = Runtime(lab.directory / "cni", conf)
        took = [_timed([str(runtime.plugin)], {"CNI_COMMAND": "VERSION"}, json.dumps(conf)) for _ in range(SAMPLES)]
        yield Figure("cni_version_ms", median_ms(took), "ms")
        on = [str(lab.nodes[0].directory / "on"), "trunkline", "network", "list"]
        took = [_timed(on, {}, "") for _ in range(SAMPLES)]
        yield Figure("cli_network_list_ms", median_ms(took), "ms")
        netns.create(NAMESPACE)
        try:
            took = [_add(runtime, f"/run/netns/{NAMESPACE}") for _ in range(ADDS)]
        finally:
            netns.delete(NAMESPACE)
        print(f"   CNI ADD, until traffic passes: {spread(took)}")
        yield Figure("cni_add_ms", median_ms(took), "ms")


def _add(runtime: Runtime, path: str) -> float:
    began = time.perf_counter()
    runtime.add("c1", path)
    took = time.perf_counter() - began
    runtime.delete("c1", path)
    return took


def _timed(command: list[str], environment: Mapping[str, str], given: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        command,
        input=given,
        env={"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began
