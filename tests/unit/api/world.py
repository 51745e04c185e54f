"""An API with everything behind it, and a client that calls it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from prometheus_client import CollectorRegistry

from controller import compat
from controller.api.credentials import parse_credentials
from controller.api.limits import RequestLimits
from controller.api.services import Services
from controller.api.token_keeper import TokenKeeper
from controller.captures import Captures, Summary
from controller.config import ClusterSettings, ControllerConfig
from controller.dns.build import DnsSettings, build
from controller.dns.tcp import Questions
from controller.errands import Errands, Kind, Refused
from controller.metadata.service import MetadataService, MetadataSettings
from controller.planning import Planner
from controller.store import Store
from controller.store.address_specs import HoldPolicy
from controller.store.quota_specs import Limits
from controller.store.specs import LeaseRecord
from flows.compile import Program, compile_node
from flows.model import FloatingIp, Port
from flows.snapshot import Snapshot

compat.already_handled()  # all that ryu.app.wsgi needs; the tests' process stays without green threads

from ryu.app.wsgi import WSGIApplication  # noqa: E402

from controller.api.gate import make_app, routes  # noqa: E402
from controller.api.openapi import Document  # noqa: E402
from tests.unit.api.conformity import Conformity  # noqa: E402

TOKENS = {
    "admin": "admin-token",
    "member-a": "member-a-token",
    "member-b": "member-b-token",
    "reader": "reader-token",
    "agent": "agent-token",
    "agent-n1": "agent-n1-token",
}
CREDENTIALS = (
    "admin:admin-token",
    "member:member-a-token:a",
    "member:member-b-token:b",
    "reader:reader-token",
    "agent:agent-token",
    "agent:agent-n1-token:n1",
)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert set(error) == {"code", "message", "field", "details"}
        return dict(error)

    @property
    def refusal(self) -> tuple[int, str, str | None]:
        return self.status, self.error["code"], self.error["field"]


@cache
def conformity() -> Conformity:
    """Of all worlds: their APIs say the same of themselves."""
    return Conformity(Document(routes(WSGIApplication())).json)


NO_UPSTREAMS = DnsSettings(resolv_conf=Path("/nonexistent"))


UNLIMITED = RequestLimits(rate=0, failures=0)


class Confirmed:
    """`behind`: the nodes that have not confirmed; `waited`: what `wait` was asked."""

    def __init__(self) -> None:
        self.behind: list[str] = []
        self.waited: list[float] = []

    def missing(self, revision: int) -> list[str]:
        return self.behind

    def wait(self, revision: int, timeout_s: float) -> list[str]:
        self.waited.append(timeout_s)
        return self.behind

    def wait_node(self, node: str, revision: int, timeout_s: float) -> bool:
        self.waited.append(timeout_s)
        return node not in self.behind


class PromptAgents(Errands):
    """Agents of all nodes, who do at once what they are asked: nobody waits in these worlds."""

    def __init__(self, held: Captures) -> None:
        super().__init__(longest_poll=0.0)
        self._held = held

    def ask(self, node: str, kind: Kind, arguments: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        if kind is not Kind.CAPTURE:
            raise Refused(f"there is no Open vSwitch on {node}")
        capture = self._held.of_node(node, arguments["capture"])
        capture.put(b"pcap")
        capture.end(Summary(0, 4, 0, "seconds"))
        return {}


class World:
    def __init__(self, url: str, request_limits: RequestLimits = UNLIMITED) -> None:
        self.ahead = 0.0  # seconds by which the clock is ahead

        def clock() -> float:
            return time.time() + self.ahead

        self.store = Store(url, vlan_range=(100, 109), clock=clock, on_commit=lambda _: self.follow())
        self.confirmed = Confirmed()
        self.commits = 0
        self.following = True  # False: the snapshot lags behind
        self.active: set[str] = set()
        self.disconnected: set[str] = set()
        self.datapaths: dict[int, Any] = {}
        self._snapshot: Snapshot = self.store.load_snapshot()
        registry = CollectorRegistry()
        self.now = 0.0  # by which machines are allowed more requests for metadata
        self.metadata = MetadataService(
            self.store, lambda: self._snapshot, MetadataSettings(), registry, lambda: self.now
        )
        held = Captures()
        self.services = Services(
            store=self.store,
            snapshot=lambda: self._snapshot,
            confirmations=self.confirmed,
            port_active=self._port_active,
            floating_ip_active=self._floating_ip_active,
            node_state=self._node_state,
            config=ControllerConfig(
                database_url=url,
                api_listen="127.0.0.1",
                api_port=8080,
                request_limits=request_limits,
                connections_per_address=128,
                handshakes_per_address=64,
                openflow_listen="127.0.0.1",
                openflow_port=6653,
                credentials=parse_credentials(CREDENTIALS),
                lease_time=7200,
                single_default_gateway=False,
                packet_in_rate=50,
                packet_in_burst=100,
                packet_in_mute=60,
                dns=DnsSettings(),
                gateway_release_delay=600,
                drop_private=False,
                history_days=0,
                audit_days=0,
                vlan_range=(100, 109),
                auto_assign_pool=None,
                metadata=MetadataSettings(),
                limits=Limits(),
                project_physical_network="physnet1",
                holds=HoldPolicy(),
                log_format="console",
                log_level="INFO",
                connection_sample=1,
                cluster=ClusterSettings("c1", 2.0, "http://127.0.0.1:8080"),
            ),
            metadata=self.metadata,
            tokens=TokenKeeper(self.store, parse_credentials(CREDENTIALS), clock),
            registry=registry,
            datapaths=lambda: self.datapaths,
            planner=Planner(self.store, self._in_force),
            dns=Questions(build(NO_UPSTREAMS)[0], lambda: self._snapshot, 300, 600),
            errands=PromptAgents(held),
            captures=held,
        )
        self.app = make_app(self.services)

    def close(self) -> None:
        self.store.close()

    def forbid_own_networks(self) -> None:
        config = replace(self.services.config, project_physical_network=None)
        self.app = make_app(replace(self.services, config=config, registry=CollectorRegistry()))

    def follow(self) -> None:
        self.commits += 1
        if not self.following:
            return
        revision, changes = self.store.changes_since(self._snapshot.revision)
        self._snapshot = self._snapshot.apply(revision, changes)

    def _in_force(self) -> tuple[Snapshot, dict[str, Program]]:
        return self._snapshot, {name: compile_node(self._snapshot, name) for name in self._snapshot.nodes}

    def _node_state(self, name: str) -> dict[str, Any]:
        return {"state": "disconnected" if name in self.disconnected else "live", "name": "cannot hide the name"}

    def _port_active(self, port: Port) -> bool:
        return port.id in self.active

    def _floating_ip_active(self, floating_ip: FloatingIp) -> bool:
        return self._snapshot.floating_ip_node(floating_ip) not in self.confirmed.behind

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = "admin",
        raw: bytes | None = None,
        **environ: Any,
    ) -> Reply:
        """`token` is a key of TOKENS, or a whole Authorization header, or None. `raw` is sent instead of `body`."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        parts = urlsplit(path)
        request: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "test",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(data),
            "CONTENT_LENGTH": str(len(data)),
            "CONTENT_TYPE": "application/json" if data else "",
        }
        if token is not None:
            known = f"Bearer {TOKENS[token]}" if token in TOKENS else token
            request["HTTP_AUTHORIZATION"] = f"Bearer {token}" if token.startswith("tl_") else known
        request.update(environ)
        got: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            got[:] = [int(status[:3]), dict(headers)]

        answer = b"".join(self.app(request, start_response))
        conformity().check(method, request["PATH_INFO"], got[0], got[1]["Content-Type"], answer)
        return Reply(got[0], got[1], answer)

    def ok(self, method: str, path: str, body: Any = None, token: str = "admin") -> Any:
        reply = self.call(method, path, body, token)
        assert reply.status in (200, 201), reply.data
        return reply.json

    def network(self, token: str = "admin", **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = self.ok("POST", "/v1/networks", network_body(**fields), token)["network"]
        return created

    def port(self, network_id: str, token: str = "admin", **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = self.ok("POST", "/v1/ports", {"network_id": network_id, **fields}, token)["port"]
        return created

    def hold(self, network_id: str, address: str) -> None:
        """Have an address kept because of the lease of a port that is gone."""
        port = self.port(network_id, fixed_ips=[{"address": address}])
        now = time.time()
        self.store.record_leases([LeaseRecord(port["id"], IPv4Address(address), "bound", now, now + 3600)])
        self.store._holds = HoldPolicy(force=False)
        self.ok("DELETE", f"/v1/ports/{port['id']}")
        self.store._holds = HoldPolicy()

    def moving(self, network_id: str, here: str, there: str) -> dict[str, Any]:
        """A port that is bound to one node and expected, and shown, by another."""
        made = self.port(network_id)
        for node in (here, there):
            self.node(node, int(node[1:]))
            shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": made["id"], "ofport": 100}]}
            self.ok("PUT", f"/v1/nodes/{node}/interfaces", shown, "agent")
        self.ok("POST", f"/v1/ports/{made['id']}/bindings", {"node": there})
        return made

    def external(self, **fields: Any) -> dict[str, Any]:
        subnets = [{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}]
        values = {"name": "ext", "kind": "flat", "physical_network": "physnet-ext", "subnets": subnets}
        return self.network(**values | {"external": True} | fields)

    def pool(self, *ranges: str, name: str = "public", **external: Any) -> dict[str, Any]:
        """On an external network of its own."""
        body = {"name": name, "network_id": self.external(**external)["id"], "ranges": ranges or ["203.0.113.200/30"]}
        made: dict[str, Any] = self.ok("POST", "/v1/floating-ip-pools", body)["floating_ip_pool"]
        return made

    def floating_ip(self, pool: str = "public", token: str = "admin", **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.ok("POST", "/v1/floating-ips", {"pool": pool, **fields}, token)["floating_ip"]
        return made

    def node(self, name: str = "n1", number: int = 1, **fields: Any) -> dict[str, Any]:
        body = {"datapath_id": f"{number:016x}", "physical_networks": ["physnet1"], **fields}
        put: dict[str, Any] = self.ok("PUT", f"/v1/nodes/{quote(name)}", body, "agent")["node"]
        return put


def network_body(**fields: Any) -> dict[str, Any]:
    return {
        "name": "blue",
        "kind": "vlan",
        "physical_network": "physnet1",
        "subnets": [{"cidr": "10.0.0.0/24"}],
        **fields,
    }
