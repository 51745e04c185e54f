from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.api.auth import Identity, Role
from controller.api.credentials import Credential, digest_of
from controller.api.errors import ApiError
from controller.api.limits import AT_ONCE, MOST_ADDRESSES, Limiter, RequestLimits
from tests.unit.api.world import World

LIMITS = RequestLimits(rate=1, burst=5, failures=3)


@pytest.fixture
def limited(empty_database: Path, tmp_path: Path) -> Iterator[World]:
    world = World(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'trunkline.db')}", LIMITS)
    yield world
    world.close()


def statuses(world: World, count: int, path: str = "/v1/networks", **more: Any) -> list[int]:
    return [world.call("GET", path, **more).status for _ in range(count)]


def test_a_token_that_asks_too_much_waits_and_no_other(limited: World) -> None:
    assert statuses(limited, 5) == [200] * 5
    refused = limited.call("GET", "/v1/networks")
    assert refused.refusal == (429, "too_many_requests", None)
    assert refused.headers["Retry-After"] == "1" and refused.error["details"] == {"retry_after": 1}
    assert statuses(limited, 1, "/v1/nothing") == [429]  # what is not there costs as much
    assert statuses(limited, 5, token="reader") == [200] * 5


def test_agents_and_health_are_not_starved(limited: World) -> None:
    assert 429 in statuses(limited, 20)
    body = {"datapath_id": "0000000000000001", "physical_networks": []}
    assert [limited.call("PUT", "/v1/nodes/n1", body, "agent").status for _ in range(20)] == [200] * 20
    assert statuses(limited, 20, "/v1/health", token=None) == [200] * 20
    assert statuses(limited, 20, "/v1/health") == [200] * 20


def test_wrong_tokens_of_one_address(limited: World) -> None:
    here: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1"}
    assert statuses(limited, 5, token="Bearer wrong", **here) == [401, 401, 401, 429, 429]
    assert statuses(limited, 1, token=None, **here) == [429]
    # one that can be guessed is not told from a wrong one meanwhile; one that cannot be, is not kept out
    secret = limited.ok("POST", "/v1/tokens", {"name": "x", "role": "admin"})["token"]["secret"]
    assert statuses(limited, 1, token="admin", **here) == [429]
    assert statuses(limited, 1, token=secret, **here) == [200]
    assert statuses(limited, 1, "/v1/health", token=None, **here) == [200]
    assert statuses(limited, 1, token="admin", REMOTE_ADDR="192.0.2.2") == [200]


def test_wrong_tokens_of_one_ipv6_site(limited: World) -> None:
    """Whoever has one address there has all of its /64."""
    for number in range(3):
        assert statuses(limited, 1, token="Bearer wrong", REMOTE_ADDR=f"2001:db8::{number}") == [401]
    assert statuses(limited, 1, token="Bearer wrong", REMOTE_ADDR="2001:db8::7:7") == [429]
    assert statuses(limited, 1, token="Bearer wrong", REMOTE_ADDR="2001:db8:0:1::7") == [401]


def credential(role: Role = Role.ADMIN, name: str = "x") -> Credential:
    return Credential(digest_of(name), Identity(role))


def test_a_token_may_ask_again_in_time() -> None:
    now = 0.0
    limiter = Limiter(RequestLimits(rate=2, burst=2, failures=60), lambda: now)
    for _ in range(2):
        limiter.admit(credential())
    with pytest.raises(ApiError):
        limiter.admit(credential())
    now = 0.5
    limiter.admit(credential())
    with pytest.raises(ApiError):
        limiter.admit(credential())
    for _ in range(60):
        limiter.failed("192.0.2.1")
    with pytest.raises(ApiError):
        limiter.may_fail("192.0.2.1")
    now = 1.6
    limiter.may_fail("192.0.2.1")


def test_no_limit_is_none() -> None:
    limiter = Limiter(RequestLimits(rate=0, failures=0), lambda: 0.0)
    for _ in range(10_000):
        limiter.admit(credential())
        limiter.failed("192.0.2.1")
        limiter.may_fail("192.0.2.1")


def test_what_is_remembered_has_an_end() -> None:
    limiter = Limiter(LIMITS, lambda: 0.0)
    for number in range(2 * MOST_ADDRESSES):
        limiter.failed(f"192.0.{number // 256}.{number % 256}")
    assert len(limiter._failures) == MOST_ADDRESSES
    with limiter.turn(credential()), limiter.turn(credential(name="y")), limiter.turn(credential(Role.AGENT)):
        assert len(limiter._turns) == 2
    assert not limiter._turns


def test_who_waits_aside_has_no_place_until_it_goes_on() -> None:
    limiter = Limiter(LIMITS, lambda: 0.0)

    def free() -> int:
        places: int = limiter._turns[credential().key].places._value
        return places

    with limiter.turn(credential()) as aside:
        assert free() == AT_ONCE - 1
        with pytest.raises(KeyError), aside():
            assert free() == AT_ONCE
            raise KeyError
        assert free() == AT_ONCE - 1
    assert not limiter._turns
    with limiter.turn(credential(Role.AGENT)) as aside, aside():
        assert not limiter._turns


def test_one_tokens_requests_are_worked_on_a_few_at_once() -> None:
    limiter = Limiter(LIMITS, lambda: 0.0)
    go = threading.Event()
    busy: list[str] = []

    def work(name: str, role: Role = Role.ADMIN) -> None:
        with limiter.turn(credential(role, name)):
            busy.append(name)
            go.wait(60)

    def settled() -> tuple[int, ...]:
        asking = limiter._turns.get(credential(name="flood").key)
        return busy.count("flood"), busy.count("other"), busy.count("agent"), asking.users if asking else 0

    flood = 3 * AT_ONCE
    with ThreadPoolExecutor(flood + 30) as pool:
        for _ in range(flood):
            pool.submit(work, "flood")
        pool.submit(work, "other")
        for _ in range(20):
            pool.submit(work, "agent", Role.AGENT)
        deadline = time.monotonic() + 30
        while settled() != (AT_ONCE, 1, 20, flood) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert settled() == (AT_ONCE, 1, 20, flood)  # most of the flood waits
        go.set()
    assert settled() == (flood, 1, 20, 0)
    assert not limiter._turns
