"""Fixtures that several kinds of tests share: the laboratory, built once per test file that asks for it."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog

from tests.datapaths import left_out
from tests.durations import summary

# pytest-xdist calls its workers gw0, gw1, ...
PREFIX = os.environ.get("TRUNKLINE_TEST_PREFIX", "tt") + os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw", "w")
"""Start of the names of all namespaces that tests make: another one for each of several runs, or workers, at once."""

LAB_PROJECTS = ("blue", "red")


LONG_FILES_FIRST = ("packaging", "ha", "faults", "vm", "browser", "database", "netns", "ovs", "fuzz", "property")
"""Directories of tests/, in this order before the others: with several workers, short files are left for the end."""

NEED_NOTHING = ("fuzz", "property", "simulate", "unit")
"""Of these nobody notices when they take longer: those beside them that count packets and seconds come first."""

_NICE = 10
_GC_THRESHOLDS = (50_000, 20, 100)  # a tenth of the time of all unit tests went by with looking for garbage


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(*_GC_THRESHOLDS)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """True if what a file is about does not depend on the datapath that is asked for."""
    return left_out(collection_path) or None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the time went, when more than one file has run."""
    reports = [each for reports in terminalreporter.stats.values() for each in reports]
    parts = [(each.nodeid, each.duration) for each in reports if isinstance(each, pytest.TestReport)]
    files = [(nodeid.partition("::")[0].removeprefix("tests/"), seconds) for nodeid, seconds in parts]
    if len({file for file, _ in files}) > 1:
        terminalreporter.section("seconds of all workers")
        for line in summary(files):
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by directory; within one the order stays."""
    rank = {name: index for index, name in enumerate(LONG_FILES_FIRST)}
    items.sort(key=lambda item: rank.get(_directory(item), len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test starts is as nice as the test."""
    if os.geteuid() == 0:  # others may not take it back
        os.setpriority(os.PRIO_PROCESS, 0, _NICE if _directory(item) in NEED_NOTHING else 0)


def _directory(item: pytest.Item) -> str:
    """Of tests/."""
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="what tests/unit/store runs on; PostgreSQL is one of their own",
    )
    parser.addoption("--kills", type=int, default=2, help="how often tests/faults kills a controller at random moments")


def pytest_sessionstart(session: pytest.Session) -> None:
    """SIGTERM ends the run like Ctrl-C, so that fixtures still clean up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """The default shows all local variables of a traceback: with a snapshot among them, that takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The commands of the controller configure logging, which others in this process would find so."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def root() -> None:
    """Root and what root needs. Nothing is skipped: a machine that cannot run a test fails it."""
    if os.geteuid() != 0:
        pytest.fail("this test makes network namespaces and needs root: run tests/run as root", pytrace=False)
    from etc.lab.lab import sweep_all

    sweep_all(PREFIX)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A private PostgreSQL (etc.lab.postgres.Postgres) for all tests of the session. Who stops it starts it again."""
    from tests.postgres import private_server

    with private_server(PREFIX) as server:
        yield server


@pytest.fixture
def make_database(postgres_server: Any) -> Iterator[Callable[..., str]]:
    """Makes databases on the shared server, with all tables or `empty=True`, and returns the URL of each."""
    from tests.postgres import databases

    with databases(postgres_server) as make:
        yield make


@pytest.fixture
def database_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`run(url, *arguments)` is `trunkline-controller db ARGUMENTS` on a database: its status, and all it has said."""
    from controller.__main__ import main

    def run(url: str, *arguments: object) -> tuple[int, str]:
        file = tmp_path / "controller.conf"
        file.write_text(f"[database]\nurl = {url}\n")
        status = main(["db", "--config-file", str(file), *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture(scope="module")
def make_lab(root: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Builds laboratories, with the arguments of `Lab`, whose nodes are connected; gone at the end of the test file.

    When a test of the file has failed, their files stay, and the report says where.
    """
    from contextlib import ExitStack

    from etc.lab.lab import Lab, free_prefix

    failed_before = request.session.testsfailed
    with ExitStack() as stack:
        labs: list[Lab] = []

        def build(**options: Any) -> Lab:
            lab = Lab(free_prefix(PREFIX), **{"open_groups": True, **options})
            labs.append(lab)
            stack.enter_context(lab)
            if options.get("controller", True):
                lab.wait_connected()
            return lab

        yield build
        if request.session.testsfailed > failed_before:
            for lab in labs:
                lab.keep_files = True
                print(f"\nthe files of the laboratory are kept in {lab.directory}")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Any]) -> Any:
    """Three nodes n1, n2, n3, all connected to a controller whose database is empty; an `etc.lab.lab.Lab`."""
    return make_lab(nodes=3, projects=LAB_PROJECTS)
