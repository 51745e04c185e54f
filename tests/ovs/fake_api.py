"""The part of the REST API that an agent talks to, answering what a test tells it to."""

from __future__ import annotations

import json
import queue
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from etc.lab import netns
from etc.lab.processes import wait_until


@dataclass(frozen=True)
class Request:
    """`at` is of time.monotonic(), `client` the address and port it came from."""

    at: float
    client: tuple[str, int]
    path: str
    authorization: str | None
    body: dict[str, Any]


class FakeApi:
    """Listens on 127.0.0.1 of `namespace`. `refusals` are statuses for the next reports; empty: 200. `confirms`:
    whether the switch holds what it should. `zones`: those of the ports, none of which uses a SNAT address; None: it
    does not say.
    """

    def __init__(self, namespace: str, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.refusals: list[int] = []
        self.confirms = True
        self.zones: tuple[int, ...] | None = None
        self.errands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = api.answer(
                    Request(time.monotonic(), self.client_address, self.path, self.headers["Authorization"], body)
                )
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                """The agent asks for errands: it waits for one. Or whether a revision is confirmed."""
                if "/errands" not in self.path:
                    self._say({"revision": 1, "confirmed": api.confirms})
                    return
                try:
                    errand = api.errands.get(timeout=20)
                except queue.Empty:
                    errand = None
                self._say({"errands": [] if errand is None else [errand]})

            def do_POST(self) -> None:
                """What comes of an errand: an answer, parts of a capture, its end."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.answers.put((self.path, body))
                self._say({"taken": True, "wanted": True})

            def _say(self, answer: dict[str, Any]) -> None:
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # the agent has gone
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        with netns.inside(namespace):
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        self.requests.append(request)
        if self.refusals:
            status = self.refusals.pop(0)
            return status, {"error": {"code": "no", "message": "told to refuse"}}
        if request.path.endswith("/interfaces"):
            ports = {i["iface_id"]: "bound" for i in request.body["interfaces"]}
            answer = {"serial": request.body["serial"], "revision": 1, "ports": ports}
            return 200, answer if self.zones is None else {**answer, "zones": self.zones, "wide_zones": self.zones}
        return 200, {"node": request.body, "revision": 1}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ask(self, kind: str, arguments: dict[str, Any], deadline: float = 20.0) -> dict[str, Any]:
        """Has the agent do an errand: its answer."""
        id_ = secrets.token_hex(16)
        self.errands.put({"id": id_, "kind": kind, "arguments": arguments, "timeout": deadline})
        while True:
            path, body = self.answers.get(timeout=deadline)
            if path.endswith(f"/errands/{id_}/answer"):
                answer: dict[str, Any] = json.loads(body)
                return answer

    def nodes(self) -> list[Request]:
        return [r for r in self.requests if not r.path.endswith("/interfaces")]

    def reports(self) -> list[Request]:
        return [r for r in self.requests if r.path.endswith("/interfaces")]

    def forget(self) -> None:
        self.requests.clear()

    def ofports(self) -> dict[str, int]:
        """iface-id to ofport in the last report."""
        reports = self.reports()
        return {i["iface_id"]: i["ofport"] for i in reports[-1].body["interfaces"]} if reports else {}

    def wait_for(self, iface_ids: set[str], deadline: float = 20.0) -> None:
        """Until the last report has exactly these."""
        wait_until(
            lambda: self.reports() and set(self.ofports()) == iface_ids,
            deadline,
            f"a report of {sorted(iface_ids)}",
            interval=0.001,
        )
