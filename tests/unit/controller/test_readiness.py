from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest

from controller.readiness import OK, Readiness, ReadinessCollector
from controller.store.specs import SchemaError, Unavailable

GOOD = {"database": OK, "flows": OK, "controllers": OK}


@dataclass
class Bed:
    newest: int = 7
    followed: int = 7
    joined: bool = True
    now: float = 100.0
    fault: Exception | None = None
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readiness = Readiness(self.ask, lambda: self.followed, lambda: self.joined, lambda: self.now)

    def ask(self) -> int:
        self.asked.append(self.now)
        if self.fault is not None:
            raise self.fault
        return self.newest

    def after(self, seconds: float) -> dict[str, str]:
        self.now += seconds
        return dict(self.readiness.checks())


def test_all_is_well() -> None:
    assert Bed().after(0) == GOOD


def test_the_database_is_asked_once_a_second_however_many_ask_us() -> None:
    bed = Bed()
    for _ in range(100):
        bed.after(0.05)
    assert 4 <= len(bed.asked) <= 6


def test_a_database_that_is_away_and_back() -> None:
    bed = Bed(fault=Unavailable("database_away", "it does not answer"))
    assert bed.after(0) == {**GOOD, "database": "database_away"}
    bed.fault = None
    assert bed.after(0.5)["database"] == "database_away"
    assert bed.after(0.6) == GOOD


def test_a_schema_that_somebody_has_changed_meanwhile() -> None:
    assert Bed(fault=SchemaError("of a later program")).after(0)["database"] == "of another schema revision"


def test_flows_that_stay_behind_the_database() -> None:
    bed = Bed(newest=8)
    assert bed.after(0) == GOOD and bed.after(4.0) == GOOD
    assert bed.after(2.0) == {**GOOD, "flows": "behind the database"}
    bed.followed = 8
    assert bed.after(2.0) == GOOD


def test_a_controller_that_the_others_have_given_up() -> None:
    assert Bed(joined=False).after(0) == {**GOOD, "controllers": "not in touch with the others"}


def test_prometheus_is_told() -> None:
    registry = CollectorRegistry()
    registry.register(ReadinessCollector(Bed(joined=False).readiness.checks))
    text = generate_latest(registry).decode()
    assert 'trunkline_check_ok{check="database"} 1.0' in text
    assert 'trunkline_check_ok{check="controllers"} 0.0' in text
