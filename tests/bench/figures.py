"""A measured figure, and how it is printed so that figures can be compared over time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str

    def line(self) -> str:
        return f"figure {self.name} {self.value:.4g} {self.unit}"


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def spread(seconds: Sequence[float]) -> str:
    """For people: what is behind a median."""
    return (
        f"n={len(seconds)} min {min(seconds) * 1000:.2f} median {median_ms(seconds):.2f} "
        f"p90 {percentile_ms(seconds, 90):.2f} max {max(seconds) * 1000:.2f} ms"
    )
