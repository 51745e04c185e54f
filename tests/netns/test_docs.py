"""The commands of docs/, as they stand there and in their order: all that no other test runs (`tests/docs_run.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from etc.lab.lab import Lab
from tests.docs_run import to_run
from tests.docs_text import PAGES
from tests.netns.docs_settings import SETTINGS
from tests.netns.docs_world import World

pytestmark = pytest.mark.root

COMMANDS = to_run()


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3, projects=("blue",), open_groups=False)


@pytest.fixture(scope="module")
def shared_world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(lab, tmp_path_factory.mktemp("docs"))


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    yield shared_world
    shared_world.clean()


@pytest.mark.parametrize("page", [page.name for page in PAGES if page.name in {each.page for each in COMMANDS}])
def test_every_command_does_what_the_page_says(world: World, page: str) -> None:
    settings = dict(SETTINGS.get(page, {}))
    wrong = []
    for command in COMMANDS:
        if command.page == page:
            for begins in [begins for begins in settings if command.line.startswith(begins)]:
                world.prepare(*settings.pop(begins))
            problem = world.run(command)
            if problem:
                wrong.append(f"{command.line}\n{problem}")
    assert not wrong, "\n\n".join(wrong)
    assert not settings, "the page has no such commands"
