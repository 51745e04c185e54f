"""One target in a process of its own, since libFuzzer ends the process that it runs in. Called by
`python -m tests.fuzz`: TARGET SECONDS CRASHES CORPUS, or --names.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from pathlib import Path

import atheris

MOST = 4096
SLOWER = 10
"""What is measured takes so many times longer than what runs."""


def main() -> None:
    if sys.argv[1:] == ["--names"]:
        from tests.fuzz.targets import TARGETS

        print("\n".join(TARGETS))
        return
    name, seconds, crashes, corpus = sys.argv[1:]
    with atheris.instrument_imports(include=["controller", "agent", "flows"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    logging.disable(logging.CRITICAL)
    for seed in target.seeds:
        (Path(corpus) / hashlib.sha256(seed).hexdigest()).write_bytes(seed)

    def one(data: bytes) -> None:
        for _ in range(3):
            began = time.process_time()
            target.run(data)
            took = time.process_time() - began
            if took < SLOWER * target.limit_s:
                return
        raise AssertionError(f"{took:.3f} s for {len(data)} bytes")

    options = [f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/{name}-", f"-max_len={MOST}"]
    options += ["-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
