"""Which test runs which command of the documentation. What no test of its own runs, tests/netns/test_docs.py does."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from tests.docs_text import PAGES, ROOT, Command, Part, page_commands

_DECLARES = "\nRUNS = "
_TOO_LONG = "takes longer than a test may, and is how tests are run"


class NotRun(NamedTuple):
    """Commands that no test runs, and why not."""

    part: Part
    reason: str


NOT_RUN = (
    NotRun(
        Part("README.md", "See it run", "etc/quickstart"),
        "builds the laboratory that tests/netns builds by the same code",
    ),
    NotRun(Part("README.md", "See it run", "tests/run"), _TOO_LONG),
    NotRun(
        Part("install.md", "On three", "scp build/deb"),
        "the machines of the test are given the packages as they are made",
    ),
    NotRun(Part("api.md", "For who changes it", "TRUNKLINE_FUZZ_EXAMPLES"), _TOO_LONG),
    NotRun(Part("security.md", "Fuzzing", "tests/run fuzz"), _TOO_LONG),
    NotRun(Part("web.md", "What it is made of", "bash -c '. etc/bootstrap"), "tests/run does it, before any test"),
)
"""Each has to be there, and to be run by nothing."""


def declared() -> list[Part]:
    """What test files say that they run, by `RUNS`, by which they find the text themselves."""
    found: list[Part] = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        if _DECLARES in file.read_text():
            module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            found += vars(module)["RUNS"]
    return found


def to_run() -> list[Command]:
    """What is left to tests/netns/test_docs.py, in the order of the pages."""
    others = [*declared(), *(one.part for one in NOT_RUN)]
    return [
        command for page in PAGES for command in page_commands(page) if not any(part.has(command) for part in others)
    ]
