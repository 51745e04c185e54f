"""A controller's API in front of the real one: what VMs ask of the relay it answers itself, the rest it passes on."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from etc.lab import netns
from etc.lab.control import ADDRESS, API_PORT
from etc.lab.lab import Lab

PORT = 8081


@dataclass(frozen=True)
class Asked:
    """`path` begins behind the port's key; `headers` have lower case names."""

    node: str
    service: str
    port_key: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class NodeApi:
    """Answers with the port's key: metadata as JSON with node, method and path, DNS as the question turned round."""

    def __init__(self, lab: Lab) -> None:
        self.asked: list[Asked] = []
        self.url = f"http://{ADDRESS.ip}:{PORT}"
        self._namespace = lab.control.namespace
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        with netns.inside(self._namespace):
            self._server = ThreadingHTTPServer((str(ADDRESS.ip), PORT), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends what is kept alive, too."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, asked: Asked) -> tuple[int, str, bytes]:
        self.asked.append(asked)
        if asked.service == "dns":
            return 200, "application/dns-message", asked.body[:2] + b"\x81\x80" + asked.body[4:]
        said = {"key": asked.port_key, "node": asked.node, "method": asked.method, "path": asked.path}
        return 200, "application/json", json.dumps(said).encode()

    def _pass_on(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, bytes]:
        with netns.inside(self._namespace):
            connection = http.client.HTTPConnection(str(ADDRESS.ip), API_PORT, timeout=10)
            try:
                kept = {name: value for name, value in headers.items() if name in ("authorization", "content-type")}
                connection.request(method, path, body, kept)
                answer = connection.getresponse()
                return answer.status, answer.headers["Content-Type"], answer.read()
            finally:
                connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                if api._server is None:
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                # /v1/nodes/NODE/SERVICE/KEY/PATH
                parts = self.path.split("/", 6)
                if parts[4:5] and parts[4] in ("metadata", "dns"):
                    rest = parts[6] if len(parts) > 6 else ""
                    asked = Asked(parts[3], parts[4], int(parts[5]), self.command, rest, headers, body)
                    status, content_type, content = api.answer(asked)
                else:
                    status, content_type, content = api._pass_on(self.command, self.path, headers, body)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
