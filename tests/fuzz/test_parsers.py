"""Whatever comes: no exception but the parser's own, and no time lost. A sample of what `tests/run fuzz` does."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

MOST = 4096
UNITS = (b"\0", b"\xff", b"[", b"{", b'{"a":', b"- ", b"&a *a ", b"\xc0\x0c", b"a.", b",", b"%", b"\r\n", b" ", b"1")
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    import logging

    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(target: Target, data: bytes) -> None:
    """A busy machine may stop us once, hardly three times; and only our own time is counted."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        target.run(data)
        best = min(best, time.process_time() - began)
        if best < target.limit_s:
            return
    raise AssertionError(f"{best:.3f} s for {len(data)} bytes: {data[:80]!r}")


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A sound input with a few bytes changed, cut out, doubled, or joined with another's."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0 if data:
                data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1)))
            case 1:
                data[at:at] = draw(st.binary(max_size=8))
            case 2:
                del data[at : at + draw(st.integers(1, 16))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case _:
                data[at:] = draw(st.sampled_from(seeds))[at:]
    return bytes(data[:MOST])


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_cut_anywhere(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        check(target, seed)
    rng = random.Random(name)
    for _ in range(40):
        seed = rng.choice(target.seeds)
        check(target, seed[: rng.randrange(len(seed) + 1)])


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    target = TARGETS[name]

    @given(st.binary(max_size=600))
    @FEW
    def run(data: bytes) -> None:
        check(target, data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    target = TARGETS[name]

    @given(mutated(target.seeds))
    @FEW
    def run(data: bytes) -> None:
        check(target, data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_again_and_again(name: str) -> None:
    """Nesting and lists that only a long input has."""
    target = TARGETS[name]
    for unit in UNITS:
        check(target, unit * (MOST // len(unit)))
