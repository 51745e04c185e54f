from __future__ import annotations

from pathlib import Path

import pytest

from tests.datapaths import EACH_RUN, KERNEL_DIRECTORIES, LEFT_OUT

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", [*EACH_RUN, *LEFT_OUT])
def test_a_file_that_is_named_is_there(name: str) -> None:
    assert (TESTS / name).is_file() and name.partition("/")[0] in KERNEL_DIRECTORIES


def test_no_file_is_both_left_out_and_in_each_run() -> None:
    assert not EACH_RUN.keys() & LEFT_OUT.keys()


def test_a_file_about_the_dummy_datapath_is_left_out() -> None:
    """It would say of the kernel's datapath what it has not seen."""
    dummy = {
        f"ovs/{path.name}"
        for path in (TESTS / "ovs").glob("test_*.py")
        if any(line in path.read_text() for line in ("from tests.ovs.real_switch import", "from tests.ovs.pair import"))
    }
    assert "ovs/test_simulator_agrees.py" in dummy and dummy <= LEFT_OUT.keys()
