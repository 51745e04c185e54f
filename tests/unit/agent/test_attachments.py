"""Attachments against a controller and a switch of the test's own: names of others, and requests at once for one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from agent import plugging
from agent.attach import attachments
from agent.attach.attachments import Attachments
from agent.attach.specs import AttachError, Attachment, Failure, Owner, Wanted

OWNER = Owner("cni", "podnet", "n1")
MINE = Attachment(OWNER, "c1", "eth0")
NETWORK = {"id": "net", "mtu": 1450}


class Controller:
    """`asked` is set, and `go` waited for, when a port is about to be made."""

    def __init__(self) -> None:
        self.known: list[dict[str, Any]] = []
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()

    def network(self, named: str) -> dict[str, Any]:
        return NETWORK

    def ports(self, *, name: str | None = None, network_id: str | None = None) -> list[dict[str, Any]]:
        return [port for port in self.known if name in (None, port["name"])]

    def create_port(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.set()
        assert self.go.wait(30)
        self.known.append({"id": f"port-{len(self.known)}", "mac": "02:00:00:00:00:01", **fields})
        return self.known[-1]

    def delete_port(self, port_id: str) -> None:
        self.known = [port for port in self.known if port["id"] != port_id]

    def network_config(self, port_id: str) -> dict[str, Any]:
        return {"ethernets": {"x": {"match": {"macaddress": "02:00:00:00:00:01"}, "addresses": ["10.0.0.5/24"]}}}


class Ready:
    def wait(self, iface_id: str, timeout_s: float) -> str | None:
        return None


class Config:
    node, integration_bridge, ovsdb = "n1", "br-int", "none"


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The names of attachments in the switch by their port."""
    found: dict[str, str] = {}

    def plug(port: plugging.PlugPort, **_how: Any) -> plugging.Plugged:
        found[port.id] = port.attachment
        return plugging.Plugged(f"tl{port.id}", True)

    monkeypatch.setattr(plugging, "plug", plug)
    monkeypatch.setattr(plugging, "unplug", lambda port_id, **_how: found.pop(port_id, None) is not None)
    monkeypatch.setattr(plugging, "attachments", lambda _db: [(f"tl{id_}", id_, name) for id_, name in found.items()])
    monkeypatch.setattr(attachments.links, "find", lambda *_: None)
    monkeypatch.setattr(attachments, "_configure", lambda *_: None)
    return found


@pytest.fixture
def held(plugged: dict[str, str]) -> Attachments:
    return Attachments(Config(), Ready())  # type: ignore[arg-type]


def attach(held: Attachments, api: Controller) -> Any:
    return held.attach(api, MINE, Wanted("podnet"), "/proc/1/ns/net")  # type: ignore[arg-type]


def detach(held: Attachments, api: Controller) -> None:
    held.detach(api, MINE)  # type: ignore[arg-type]


def test_what_is_attached_again_is_the_same(held: Attachments, plugged: dict[str, str]) -> None:
    api = Controller()
    assert attach(held, api).port_id == attach(held, api).port_id == "port-0"
    assert plugged == {"port-0": MINE.name}
    detach(held, api)
    assert not plugged and not api.known


@pytest.mark.parametrize("theirs", [{"network_id": "other"}, {"device_id": ""}])
def test_a_port_that_somebody_else_has_called_so_is_not_taken(
    held: Attachments, plugged: dict[str, str], theirs: dict[str, str]
) -> None:
    api = Controller()
    trap = {"id": "trap", "name": MINE.name, "network_id": "net", "device_id": "c1", **theirs}
    api.known.append(trap)
    with pytest.raises(AttachError, match="port trap is called") as refused:
        attach(held, api)
    assert refused.value.failure is Failure.REFUSED and not plugged and api.known == [trap]


def test_who_gives_up_and_takes_it_off_leaves_nothing(held: Attachments, plugged: dict[str, str]) -> None:
    """The engine has killed its plugin, which is still attended to here, and asks for DEL at once."""
    api = Controller()
    api.go.clear()
    adding = threading.Thread(target=attach, args=(held, api))
    adding.start()
    assert api.asked.wait(30)
    deleting = threading.Thread(target=detach, args=(held, api))
    deleting.start()
    deleting.join(0.3)
    api.go.set()
    adding.join(30)
    deleting.join(30)
    assert not plugged and not api.known and not held._turns._turns


def test_one_port_however_often_it_is_asked_for_at_once(held: Attachments, plugged: dict[str, str]) -> None:
    api = Controller()
    api.go.clear()
    threads = [threading.Thread(target=attach, args=(held, api)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert api.asked.wait(30)
    api.go.set()
    for thread in threads:
        thread.join(30)
    assert [port["id"] for port in api.known] == list(plugged) == ["port-0"]


@pytest.mark.parametrize(
    ("network", "container", "ifname"),
    [
        ("podnet:n1", "c1", "eth0"),
        ("", "c1", "eth0"),
        ("podnet", "c1:eth0", "eth0"),
        ("podnet", "../c1", "eth0"),
        ("podnet", "", "eth0"),
        ("podnet", "c1", "../../x"),
        ("podnet", "c1", "eth0 netns 1"),
        ("podnet", "c1\n", "eth0"),
        ("podnet", "c1", ".."),
        ("podnet", "c1", "e" * 16),
    ],
)
def test_no_part_of_a_name_can_be_taken_for_two(network: str, container: str, ifname: str) -> None:
    """GC of one network takes off what begins with its name, and must not take what is another's."""
    with pytest.raises(AttachError):
        _ = Attachment(Owner("cni", network, "n1"), container, ifname).name
