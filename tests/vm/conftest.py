"""Fixtures of both kinds of machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from tests.netns.cloud import make_network
from tests.vm.guest import make_initrd


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1)


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "blue", "10.40.0.0/24", segment=140, mtu=1400)


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "initrd"
    make_initrd(path)
    return path
