"""Fixtures that several files of these tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from etc.lab.lab import Lab
from tests.netns.floating import STATES, put_controller
from tests.netns.hostile import Scene, build


@pytest.fixture(scope="module", params=STATES)
def controller(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A test that uses it runs once in each state of the controller, which runs again in the end."""
    put_controller(lab, request.param)
    yield request.param
    if request.param == "stopped":
        put_controller(lab, "restarted")


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    """A hostile VM and all who must not hear from it."""
    # test_floods.py has what comes of a flood that goes on
    with build(make_lab(nodes=2, control_options={"packet_in": {"mute": 0}})) as made:
        yield made
