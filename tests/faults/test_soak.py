"""The soak, for a few seconds: `tests/run soak` is as long as one likes."""

from __future__ import annotations

import random

import pytest

from tests.conftest import PREFIX
from tests.faults.soak import run

pytestmark = pytest.mark.root

SECONDS = 4.0


def test_edits_and_faults_by_chance(root: None) -> None:
    memory = run(SECONDS, random.SystemRandom().randrange(1 << 32), f"{PREFIX}s")
    assert "controller" in {one.name for one in memory}
