"""The stub server as a fixture, and a way to run the command against it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from controller.cli.main import app
from tests.unit.cli.stub import TOKEN, Handler, Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    handler = type("Handler", (Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield stub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def program() -> Any:
    """The whole command, with all its groups; making it takes a tenth of a second."""
    return typer.main.get_command(app)


@pytest.fixture
def run(stub: Stub, program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command in this process, away from the tester's own settings."""
    monkeypatch.setattr("typer.testing._get_command", lambda _: program)  # it would make it anew for each call
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRUNKLINE_URL", stub.url)
    monkeypatch.setenv("TRUNKLINE_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), prog_name="trunkline")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stderr
        return result

    return invoke
