"""One laboratory for a file: three nodes, two controllers on one PostgreSQL, and a third one that is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from etc.lab.lab import Lab
from tests.ha.cluster import NAMES, TWO, Cloud, build


@pytest.fixture(scope="module")
def shared_cloud(make_lab: Callable[..., Lab]) -> Cloud:
    return build(make_lab(nodes=3, controllers=NAMES, late=NAMES[2:], projects=("blue",)))


@pytest.fixture
def cloud(shared_cloud: Cloud) -> Iterator[Cloud]:
    """The first two controllers live, and each masters its nodes."""
    lab = shared_cloud.lab
    for control in lab.controls:
        alive = control.process is not None and control.process.alive()
        if control.name in NAMES[:2] and not alive:
            control.start()
        elif control.name not in NAMES[:2] and alive:
            control.stop()
    lab.ask(lab.controls[0])
    shared_cloud.wait_masters(TWO)
    yield shared_cloud
