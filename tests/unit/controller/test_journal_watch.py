"""What others write is followed, and only that."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from controller.journal_watch import JournalWatch


@dataclass
class Journal:
    """In the database is `written`; `known` is in force here."""

    written: int = 5
    known: int = 5
    did: list[str] = field(default_factory=list)

    def revision(self) -> int:
        return self.written

    def watch(self) -> JournalWatch:
        return JournalWatch(
            self, lambda: self.known, lambda: self.did.append("wake"), lambda: self.did.append("start anew")
        )


@pytest.mark.parametrize(("told", "did"), [("4", []), ("5", []), ("6", ["wake"])])
def test_only_news_wakes(told: str, did: list[str]) -> None:
    journal = Journal()
    journal.watch().told(told)
    assert journal.did == did


@pytest.mark.parametrize(("written", "did"), [(5, []), (7, ["wake"]), (4, ["start anew"])])
def test_what_was_not_told_is_looked_for(written: int, did: list[str]) -> None:
    """A database that has gone back is another one: nothing that is known of it holds."""
    journal = Journal(written=written)
    journal.watch().look()
    assert journal.did == did


def test_what_is_followed_while_one_looks_is_no_way_back() -> None:
    journal = Journal()

    def revision() -> int:
        journal.known = 9
        return 8

    journal.revision = revision  # type: ignore[method-assign]
    journal.watch().look()
    assert journal.did == ["wake"]
