"""Each command of the documentation is run by a test, and what it prints is looked at."""

from __future__ import annotations

import re

import pytest

from tests.docs_output import mismatch
from tests.docs_run import NOT_RUN, declared, to_run
from tests.docs_text import PAGES, blocks, is_for_shell, page_commands
from tests.netns.docs_settings import SETTINGS
from tests.netns.docs_world import is_harmless

COMMANDS = [command for page in PAGES for command in page_commands(page)]
DRAWINGS = {"a", "database", "each", "frame", "n1"}
"""With what blocks begin that look as if they were for a shell, and are none: drawings, and flows of a node."""


def test_what_looks_like_a_command_is_known_as_one() -> None:
    """Else tests.docs_text.PROGRAMS lacks the program, and nothing would run it."""
    first = [block[0] for page in PAGES for block in blocks(page.read_text()) if not is_for_shell(block)]
    words = [line.split(" ")[0] for line in first if not re.match(r"\w+ = ", line)]
    assert {word for word in words if re.fullmatch(r"[\w./-]*[a-z][\w./-]*", word)} == DRAWINGS


def test_every_command_is_run_or_said_to_be_run_by_nothing() -> None:
    """Each by one test, or it is in NOT_RUN; and there is nothing in these lists that no page has."""
    parts = declared()
    not_run = [one.part for one in NOT_RUN]
    left = to_run()
    for command in COMMANDS:
        assert sum(part.has(command) for part in (*parts, *not_run)) + (command in left) == 1, command
    assert [part for part in (*parts, *not_run) if not any(part.has(command) for command in COMMANDS)] == []
    assert parts and all(one.reason for one in NOT_RUN)


def test_what_stands_before_a_command_stands_before_one_that_is_run() -> None:
    left = to_run()
    for page, settings in SETTINGS.items():
        for begins in settings:
            found = [command for command in left if command.page == page and command.line.startswith(begins)]
            assert found, (page, begins)


@pytest.mark.parametrize(
    ("line", "elsewhere"),
    [
        ("apt-get purge -y trunkline-agent", False),
        ("trunkline status && systemctl restart trunkline-agent", False),
        ("trunkline status | tee /etc/hosts", False),
        ("trunkline token list >/etc/trunkline/tokens", False),
        ("ip link delete eth0", False),
        ("trunkline status; rm -r /", False),
        ("trunkline status & rm -r /x", False),
        ("trunkline status $(rm -r /x)", False),
        ('trunkline status "`rm -r /x`"', False),
        ("ip netns exec web1 rm -r /etc/x", False),
        ("curl -o /etc/x http://192.0.2.1", False),
        ("trunkline status > ../../../etc/x", False),
        ('trunkline status > "/etc/x"', False),
        ("apt-get update", True),
        ("rm -r /etc", True),
    ],
)
def test_what_would_change_the_machine_is_not_run(line: str, elsewhere: bool) -> None:
    assert not is_harmless(line, elsewhere=elsewhere)
    assert is_harmless("ip netns exec web1 ping -c 1 10.0.0.1 # ; rm") and is_harmless(
        "curl 'a;b' | jq '.|keys' > file"
    )


@pytest.mark.parametrize(
    ("shown", "printed", "wrong"),
    [
        (
            ["name  started", "----  -------", "c1    2026-11-25T21:03:25Z"],
            ["name started", "---- ---", "b 2027-01-01T00:00:00Z"],
            None,
        ),
        (
            ["name  started", "----  -------", "c1    2026-11-25T21:03:25Z"],
            ["name begun", "---- ---", "b 2027-01-01T00:00:00Z"],
            "titles",
        ),
        (
            ["name  started", "----  -------", "c1    2026-11-25T21:03:25Z"],
            ["name started", "---- ---", "b never"],
            "no line",
        ),
        (
            [" cookie=0x5400002200000001, table=4, n_packets=4, reg6=0x1 actions=drop"],
            [
                "OFPST_FLOW reply (OF1.4) (xid=0x2):",
                " cookie=0x5400002200000009, duration=1.5s, table=4, n_packets=0, reg6=0x9 actions=drop",
            ],
            None,
        ),
        (
            [" cookie=0x5400002200000001, table=4, n_packets=4, reg6=0x1 actions=drop"],
            [" cookie=0x5400002300000001, table=4, n_packets=4, reg6=0x1 actions=drop"],
            "nothing like",
        ),
        (
            [" cookie=0x5400002200000001, table=4 actions=drop"],
            [" cookie=0x5400002200000001, table=5 actions=drop"],
            "nothing like",
        ),
        (["a ... c", "..."], ["a b c", "d"], None),
        (["a", "b"], ["b", "a"], "nothing like"),
        (["a"], ["a", "b"], "does not have"),
        (["a", "b"], ["a"], "nothing like"),
        (["2026-11-25T21:04:11Z  port  web1 is active"], ["2027-01-01T00:00:00Z  port      web1 is active"], None),
    ],
)
def test_an_output_that_is_no_longer_so_is_seen(shown: list[str], printed: list[str], wrong: str | None) -> None:
    said = mismatch(shown, printed)
    assert said is None if wrong is None else said and wrong in said, said
