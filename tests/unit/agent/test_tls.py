"""The agent's client by https: with a real certificate, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.client import Client, ClientError
from agent.config import Tls
from controller.pki.directory import CA, CERTIFICATE, KEY
from tests.pki import Pki

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Controller:
    """Demands a certificate, and answers whatever is asked; `seen`: who asked, and the head of each request."""

    def __init__(self, place: Path) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=place / CA)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(place / CERTIFICATE, place / KEY)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listening.getsockname()[1]}"

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, self._context.wrap_socket(connection, server_side=True) as tls:
            serial = str((tls.getpeercert() or {})["serialNumber"])
            while said := tls.recv(65536):
                self.seen.append((serial, said))
                tls.sendall(ANSWER)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@pytest.fixture
def controller(pki: Pki) -> Iterator[Controller]:
    made = Controller(pki.controller())
    yield made
    made.stop()


def files(place: Path) -> Tls:
    return Tls(str(place / CERTIFICATE), str(place / KEY), str(place / CA), str(place / CA))


def test_a_renewed_certificate_is_shown_with_the_next_request(pki: Pki, controller: Controller) -> None:
    place = pki.node("n1")
    asking = Client((controller.url,), "", tls=files(place))
    with asyncio.Runner() as runner:
        for _ in range(2):
            assert runner.run(asking.ask("GET", "/")).body == b"ok"
        pki.directory.renew("node-n1", days=30)
        for _ in range(2):
            assert runner.run(asking.ask("GET", "/")).body == b"ok"
        # half of the next: the last whole one goes on
        (place / KEY).unlink()
        assert runner.run(asking.ask("GET", "/")).body == b"ok"
        asking.close()
    first, second, third, fourth, fifth = (serial for serial, _ in controller.seen)
    assert first == second != third == fourth == fifth
    assert b"authorization" not in controller.seen[0][1].lower(), "without a token none is sent"


def test_another_authoritys_controller_is_told_nothing(pki: Pki, controller: Controller, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other").node("n1")
    with asyncio.Runner() as runner, pytest.raises(ClientError, match="certificate verify failed"):
        runner.run(Client((controller.url,), "secret", tls=files(other)).ask("GET", "/"))
    assert controller.seen == []


def test_files_that_are_not_there_are_the_requests_failure(pki: Pki, controller: Controller, tmp_path: Path) -> None:
    missing = files(tmp_path / "nothing")
    with asyncio.Runner() as runner, pytest.raises(ClientError):
        runner.run(Client((controller.url,), "secret", tls=missing).ask("GET", "/"))
