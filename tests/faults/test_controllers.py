"""Two controllers and their PostgreSQL, killed at random moments while clients write to either: what was answered is
there, no address is given twice, and no packet is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from controller.client import Client
from etc.lab.control import Control
from etc.lab.lab import DATABASE, Lab
from etc.lab.processes import wait_until
from tests.faults.clients import Kind, editing, wrong
from tests.faults.cloud import PROJECT, Cloud, build
from tests.faults.mirror import Mirror

pytestmark = pytest.mark.root

DEADLINE = 30.0
QUOTA = {"floating_ips": 100, "security_groups": 1000, "security_group_rules": 10000}


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab]) -> Cloud:
    options = {"addresses": {"disassociate_timeout": -1}, "quota": QUOTA}
    return build(make_lab(nodes=2, controllers=("bob", "pam"), projects=(PROJECT,), control_options=options))


@pytest.fixture(scope="module")
def mirror(cloud: Cloud) -> Iterator[Mirror]:
    assert cloud.lab.postgres
    with Mirror.of(cloud.lab, cloud.lab.postgres.url(DATABASE)) as made:
        yield made


def alive(lab: Lab) -> list[Control]:
    return [control for control in lab.controls if control.process and control.process.alive()]


def kill_one(cloud: Cloud, kinds: Sequence[Kind], dice: random.Random) -> str:
    """Once some have been answered; it comes back after a while. Returns who it was."""
    lab = cloud.lab
    assert lab.postgres
    answered = sum(kind.answered for kind in kinds)
    wait_until(lambda: sum(kind.answered for kind in kinds) > answered, DEADLINE, "nobody is answered")
    time.sleep(dice.random())  # not waited for: the moment is what is tried
    victim = dice.choice([*lab.controls, lab.postgres])
    victim.kill()
    time.sleep(dice.random() * 3)
    victim.start()
    return victim.name if isinstance(victim, Control) else "PostgreSQL"


@pytest.mark.timeout(3600)
def test_killed_at_random_moments(cloud: Cloud, mirror: Mirror, request: pytest.FixtureRequest) -> None:
    """A hundred of them are `tests/run faults -k random --kills 100`."""
    lab = cloud.lab
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    kinds = cloud.kinds()

    def either() -> Client:
        return random.choice(alive(lab) or lab.controls).client()

    with cloud.traffic():
        with editing(kinds, either, dice):
            killed = [kill_one(cloud, kinds, dice) for _ in range(request.config.getoption("kills"))]
        lab.wait_connected()
        mirror.wait_equal()
    print(f"killed: {killed}; requests answered:", {kind.name: kind.answered for kind in kinds})
    for control in lab.controls:
        assert wrong(kinds, control.client()) == [], control.name
    assert all(kind.answered for kind in kinds)
    for kind in kinds:
        kind.end_all(lab.client)
    mirror.wait_equal()
