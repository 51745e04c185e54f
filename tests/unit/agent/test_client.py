"""The agent's client of the API, over real sockets: which connections it keeps, and what becomes of an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from agent.client import Answer, Client, ClientError

KEPT = b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 4\r\n\r\nkept"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast"
END = b""


class Controller:
    """Answers its connections, one after the other, as it is told: `answers` are those of each, END closes it."""

    def __init__(self) -> None:
        self.answers: list[list[bytes]] = []
        self.asked: list[tuple[int, bytes]] = []
        """The number of the connection, and what was said over it."""
        self.closed = threading.Semaphore(0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listening.close()

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            number += 1
            with connection:
                for answer in self.answers.pop(0):
                    if answer is END:
                        break
                    if not (said := connection.recv(65536)):
                        break
                    self.asked.append((number, said))
                    connection.sendall(answer)
                else:
                    connection.recv(1)  # until the client closes it
            self.closed.release()


@pytest.fixture
def controller() -> Iterator[Controller]:
    made = Controller()
    yield made
    made.stop()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


def client(controller: Controller, prefix: str = "", **options: float) -> Client:
    return Client((controller.url + prefix,), "secret", **options)


def test_requests_go_over_one_connection(controller: Controller, runner: asyncio.Runner) -> None:
    controller.answers = [[KEPT, KEPT]]
    asking = client(controller, "/api")
    assert runner.run(asking.ask("GET", "/v1/a%20b")) == Answer(200, "text/x", b"kept")
    assert runner.run(asking.ask("POST", "/v1/c", b"body", "text/y")).body == b"kept"
    asking.close()
    (first, head), (second, post) = controller.asked
    assert first == second == 1
    assert head.startswith(b"GET /api/v1/a%20b HTTP/1.1\r\n") and b"Authorization: Bearer secret\r\n" in head
    assert b"Content-Length: 4\r\n" in post and b"Content-Type: text/y\r\n" in post and post.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("first", [[KEPT, END], [LAST, END]])
def test_a_connection_that_was_closed_is_not_used_again(
    controller: Controller, runner: asyncio.Runner, first: list[bytes]
) -> None:
    """Closed by a controller that has restarted, while no event loop runs: as between two reports."""
    controller.answers = [first, [KEPT]]
    asking = client(controller)
    runner.run(asking.ask("GET", "/"))
    assert controller.closed.acquire(timeout=5)
    assert runner.run(asking.ask("GET", "/")).body == b"kept"
    asking.close()
    assert [number for number, _ in controller.asked] == [1, 2]


def test_an_answer_that_comes_too_late_is_nobody_elses(controller: Controller, runner: asyncio.Runner) -> None:
    controller.answers = [[KEPT[:-2], KEPT], [KEPT]]
    asking = client(controller, read_timeout=0.2)
    with pytest.raises(ClientError) as raised:
        runner.run(asking.ask("GET", "/"))
    assert raised.value.slow and raised.value.of_request
    assert runner.run(asking.ask("GET", "/")).body == b"kept"
    asking.close()
    assert [number for number, _ in controller.asked] == [1, 2]


def test_a_request_that_nobody_waits_for_any_more_ends_its_connection(
    controller: Controller, runner: asyncio.Runner
) -> None:
    controller.answers = [[KEPT[:-2], KEPT], [KEPT]]
    asking = client(controller)

    async def give_up() -> None:
        task = asyncio.create_task(asking.ask("GET", "/"))
        while not controller.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert (await asking.ask("GET", "/")).body == b"kept"

    runner.run(give_up())
    asking.close()
    assert [number for number, _ in controller.asked] == [1, 2]


def test_an_answer_may_be_too_long(controller: Controller, runner: asyncio.Runner) -> None:
    controller.answers = [[KEPT], [KEPT]]
    asking = client(controller)
    with pytest.raises(ClientError) as raised:
        runner.run(asking.ask("GET", "/", most=3))
    assert raised.value.status == 200 and raised.value.of_request
    assert runner.run(asking.ask("GET", "/", most=4)).body == b"kept"
    asking.close()


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b" "])
def test_what_is_no_answer_is_an_error(controller: Controller, runner: asyncio.Runner, answer: bytes) -> None:
    controller.answers = [[answer, END]]
    with pytest.raises(ClientError) as raised:
        runner.run(client(controller).ask("GET", "/"))
    assert not raised.value.of_request


def test_another_controller_is_asked_when_it_is_its_turn(controller: Controller, runner: asyncio.Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    controller.answers = [[KEPT]]
    asking = Client((nobody, controller.url), "secret")
    with pytest.raises(ClientError) as raised:
        runner.run(asking.ask("GET", "/"))
    assert not raised.value.of_request
    asking.next_url(nobody)
    asking.next_url(nobody)  # said by the next one that has failed there
    assert runner.run(asking.ask("GET", "/")).body == b"kept"
    asking.close()


def test_a_refused_report_says_why(controller: Controller, runner: asyncio.Runner) -> None:
    reason = b'{"error":{"message":"no such node"}}'
    controller.answers = [[b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(reason) + reason]]
    asking = client(controller)
    with pytest.raises(ClientError, match="404 no such node") as raised:
        runner.run(asking.put("/v1/nodes/n1", {}))
    assert raised.value.status == 404
    asking.close()
