"""The control side: the management network, controllers, each in a namespace, and a way to talk to them."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import stat
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from controller.client import Client, ClientError, Object, Tls
from controller.pki.directory import CA, CERTIFICATE, CRL, KEY, PkiDirectory
from controller.pki.identity import CertificateName, Kind
from etc.lab import netns
from etc.lab.fabric import QUIET
from etc.lab.processes import Process, start

ADDRESS = IPv4Interface("192.0.2.1/24")
"""Of the first controller; the second one is .2, and so on."""

DATABASE_ADDRESS = IPv4Interface("192.0.2.9/24")
BRIDGE = "mgmt"
API_PORT = 8080
OPENFLOW_PORT = 6653
PROJECT_ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE = 90.0
PROGRAM = ("controller",)

# Laboratory tokens, for whoever plays with it: the namespace is closed. Only this machine's loopback leads to the API
# from outside, while the quickstart is up.
ADMIN_TOKEN = "lab-admin"
AGENT_TOKEN = "lab-agent"
READER_TOKEN = "lab-reader"


def member_token(project: str) -> str:
    return f"lab-{project}"


class LabClient(Client):
    """The project's own REST client, with its sockets in the control namespace. Not for several threads at once."""

    def __init__(self, namespace: str, url: str, token: str, tls: Tls | None = None) -> None:
        super().__init__(url, token, tls=tls)
        self._namespace = namespace

    def _call(self, method: str, path: str, body: Object | None = None, *, read_timeout: float | None = None) -> Object:
        with netns.inside(self._namespace):
            return super()._call(method, path, body, read_timeout=read_timeout)


class Control:
    """A controller; the namespace of the first one has the management network. `projects` get a member token each;
    `options` go into the configuration: {"dhcp": {"lease_time": 60}}. `database_url`: PostgreSQL, shared by several,
    of which each has a `name`. `tls`: nothing is said in plain text, and agents have certificates in place of tokens.
    `program`: what runs, a module and its first arguments.
    """

    def __init__(
        self,
        prefix: str,
        directory: Path,
        projects: tuple[str, ...] = (),
        options: Mapping[str, Mapping[str, object]] | None = None,
        *,
        number: int = 1,
        name: str = "ctl",
        database_url: str | None = None,
        tls: bool = False,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.name = name
        self.program = tuple(program)
        self.namespace = f"{prefix}-ctl{number if number > 1 else ''}"
        self.directory = directory
        self.address = IPv4Interface((int(ADDRESS.ip) + number - 1, ADDRESS.network.prefixlen))
        self.all: list[Control] = [self]
        self.database_url = database_url or f"sqlite:///{directory}/trunkline.db"
        self.projects = projects
        self.options = dict(options or {})
        self.pki = PkiDirectory(directory.parent / "pki") if tls else None
        self.url = f"{'https' if tls else 'http'}://{self.address.ip}:{API_PORT}"
        self.openflow_target = f"{'ssl' if tls else 'tcp'}:{self.address.ip}:{OPENFLOW_PORT}"
        self.process: Process | None = None

    @property
    def config_file(self) -> Path:
        return self.directory / "controller.conf"

    @property
    def starter(self) -> Path:
        """For the operator: the command that starts the controller, when it was killed."""
        return self.directory / "start"

    def certificate(self, kind: Kind, name: str, *addresses: str) -> Path | None:
        """The directory with a certificate and its key, made when it is first asked for; None without TLS."""
        if self.pki is None:
            return None
        of = CertificateName(kind, name)
        place = self.pki.path / of.label
        return place if place.exists() else self.pki.issue(of, addresses, days=1)

    @property
    def ca(self) -> str:
        """The authority's file, "" without TLS."""
        return "" if self.pki is None else str(self.pki.path / CA)

    def start_network(self) -> None:
        """The management network alone, for nodes to join; and the authority."""
        if self.pki is not None:
            self.pki.init("laboratory")
        netns.create(self.namespace)
        netns.set_sysctl(self.namespace, QUIET)
        netns.configure(
            self.namespace,
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"link set {BRIDGE} up",
            f"address add {ADDRESS} dev {BRIDGE}",
        )

    def join_network(self, first: Control) -> None:
        """A namespace of its own on the management network that the first controller has."""
        netns.create(self.namespace)
        netns.set_sysctl(self.namespace, QUIET)
        first.connect(self.namespace, f"{self.name[:10]}-mgmt", self.address)

    def connect(self, namespace: str, cable: str, address: IPv4Interface) -> None:
        """Give a namespace the interface mgmt0 with an address on the management network."""
        netns.veth(namespace, "mgmt0", self.namespace, cable)
        netns.configure(self.namespace, f"link set {cable} master {BRIDGE}")
        netns.configure(namespace, f"address add {address} dev mgmt0")

    def start(self) -> None:
        """Start the controller and wait until its API answers."""
        self.launch()
        assert self.process
        self.process.wait_for(self.healthy, START_DEADLINE, "the API does not answer")

    def launch(self) -> None:
        """Start the controller, and wait for nothing."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_config()
        self._write_wrapper()
        self._write_starter()
        command = [sys.executable, "-m", *self.program, "--config-file", str(self.config_file)]
        log = self.directory / "controller.log"
        self.process = start("controller", netns.command(self.namespace, command), log, cwd=PROJECT_ROOT)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process
        self.process.kill()

    def restart(self, *, kill: bool = False) -> None:
        self.kill() if kill else self.stop()
        self.start()

    def healthy(self) -> bool:
        try:
            return self.client("").health().get("status") == "ok"
        except ClientError:
            return False

    def client(self, token: str = ADMIN_TOKEN) -> LabClient:
        return LabClient(self.namespace, self.url, token, Tls(ca=self.ca))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | object = None,
        *,
        token: str | None = ADMIN_TOKEN,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> tuple[int, Any]:
        """One raw request, for what no proper client would send: (status, decoded JSON, or text where it is none)."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        with netns.inside(self.namespace):
            connection = self._connection(timeout)
            try:
                connection.request(method, path, content, all_headers)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            finally:
                connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.pki is None:
            return http.client.HTTPConnection(str(self.address.ip), API_PORT, timeout=timeout)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(str(self.address.ip), API_PORT, timeout=timeout, context=context)

    def _write_config(self) -> None:
        tokens = [f"admin:{ADMIN_TOKEN}", f"agent:{AGENT_TOKEN}", f"reader:{READER_TOKEN}"]
        tokens += [f"member:{member_token(project)}:{project}" for project in self.projects]
        sections: dict[str, dict[str, object]] = {
            "database": {"url": self.database_url},
            # nobody else is on the management network of a laboratory, and how fast it is asked is its own business
            "api": {"listen": self.address.ip, "port": API_PORT, "plain_tcp": True, "rate": 0, "failures": 0},
            "openflow": {"listen": self.address.ip, "port": OPENFLOW_PORT, "plain_tcp": True},
            "cluster": {"name": self.name},
            "auth": {"token": tokens},
        }
        place = self.certificate(Kind.CONTROLLER, self.name, str(self.address.ip))
        if place is not None:
            files = {"certificate": CERTIFICATE, "key": KEY, "ca": CA, "crl": CRL}
            sections["tls"] = {option: place / name for option, name in files.items()}
            for section in ("api", "openflow"):
                del sections[section]["plain_tcp"]
        for section, values in self.options.items():
            sections.setdefault(section, {}).update(values)
        write_ini(self.config_file, sections)

    def _write_wrapper(self) -> None:
        """`trunkline` for the operator: the real command, with its sockets, address and token where they belong."""
        wrapper = self.directory.parent / "trunkline"
        wrapper.write_text(
            "#!/bin/sh\n"
            f"export TRUNKLINE_URL={self.url} TRUNKLINE_CA={self.ca}\n"
            f'export TRUNKLINE_TOKEN="${{TRUNKLINE_TOKEN:-{ADMIN_TOKEN}}}"\n'
            f"exec nsenter --net={netns.DIRECTORY}/{self.namespace} "
            f'env PYTHONPATH={PROJECT_ROOT} {sys.executable} -m controller.cli.main "$@"\n'
        )
        wrapper.chmod(0o755)

    def _write_starter(self) -> None:
        self.starter.write_text(
            f"#!/bin/sh\ncd {PROJECT_ROOT} && exec nsenter --net={netns.DIRECTORY}/{self.namespace} "
            f"{sys.executable} -m controller --config-file {self.config_file}\n"
        )
        self.starter.chmod(0o755)


def write_ini(path: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
    """Write an oslo.config file, readable by root alone since it holds tokens; a list becomes a repeated option."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            lines += [f"{name} = {each}" for each in (value if isinstance(value, list | tuple) else [value])]
        lines.append("")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines))
