"""`tests/run fuzz [--seconds N] [--crashes DIRECTORY] [TARGET...]`: the targets, one after the other, as atheris
(libFuzzer with the coverage of Python) leads them. What makes one raise, or takes too long, is written to DIRECTORY,
and the run fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES_ONLY = "--names"


def main() -> int:
    known = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", NAMES_ONLY], check=True, capture_output=True, text=True
    ).stdout.split()
    parser = argparse.ArgumentParser(prog="tests/run fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    parser.add_argument("--seconds", type=int, default=20, help="for each target (20)")
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()) / "trunkline-crashes")
    given = parser.parse_args()
    unknown = sorted(set(given.targets) - set(known))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    given.crashes.mkdir(parents=True, exist_ok=True)
    failed = []
    targets = given.targets or known
    for name in targets:
        with tempfile.TemporaryDirectory(prefix="trunkline-corpus-") as corpus:
            command = [sys.executable, "-m", "tests.fuzz.guided", name, str(given.seconds), str(given.crashes), corpus]
            done = subprocess.run(command, capture_output=True, text=True)
        text = done.stderr.splitlines()
        runs = next((line.split()[-1] for line in text if line.startswith("stat::number_of_executed_units")), "?")
        if done.returncode:
            failed.append(name)
            print(f"{name}: FAILED after {runs} inputs", *done.stdout.splitlines(), *text[-30:], sep="\n", flush=True)
        else:
            print(f"{name}: {runs} inputs", flush=True)
    if failed:
        print(f"what failed is in {given.crashes}")
    print(f"{len(targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
