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
    try:
        put_controller(lab, request.param)
        yield request.param
    finally:
        if request.param == "stopped":
            put_controller(lab, "restarted")


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    """A hostile VM and all who must not hear from it."""
    # test_floods.py has what comes of a flood that goes on
    with build(make_lab(nodes=2, control_options={"packet_in": {"mute": 0}})) as made:
        yield made


@pytest.fixture(scope="module", params=["filtered", "stateless", "unfiltered"])
def attackers_port(scene: Scene, request: pytest.FixtureRequest) -> Iterator[str]:
    """What is known of the connections of the attacker's port."""
    client, port_id = scene.lab.client, scene.attacker.port["id"]
    groups = [group["id"] for group in client.get_port(port_id)["security_groups"]]
    network_id = scene.attacker.port["network_id"]
    try:
        if request.param == "stateless":
            made = client.create_security_group({"name": "loose", "project_id": "p", "stateful": False}).object
            assert made
            scene.lab.confirm(client.update_port(port_id, {"security_groups": [made["id"]]}).revision)
        if request.param == "unfiltered":
            scene.lab.confirm(client.update_network(network_id, {"filtering": False}).revision)
        yield request.param
    finally:
        scene.lab.confirm(client.update_port(port_id, {"security_groups": groups}).revision)
        scene.lab.confirm(client.update_network(network_id, {"filtering": True}).revision)
