from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Web, chromium
from tests.browser.served import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("controller")) as controller:
        yield controller


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Callable[..., Web]]:
    """Opens tabs on `served`, with options of a browser context. In the end none of them has complained."""
    opened: list[Web] = []

    def make(**options: Any) -> Web:
        opened.append(Web(browser, served.url, **options))
        return opened[-1]

    yield make
    noise = [line for web in opened for line in web.noise]
    for web in opened:
        web.close()
    assert not noise, noise
