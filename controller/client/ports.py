"""Ports: where they are bound, what their machines are told, what passes them, and captures of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

import urllib3

from controller.client.errors import Unreachable
from controller.client.resources import Resources, Written, part_of, path_of
from controller.client.transport import Object, reason_of


class Capture:
    """A pcap file that grows: its parts, until it is over. Raises Unreachable when it is cut off."""

    def __init__(self, id_: str, url: str, answer: urllib3.BaseHTTPResponse) -> None:
        self.id = id_
        self._url = url
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.stream(1 << 16)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self._url}: {reason_of(error)}") from error


class Ports(Resources):
    def list_ports(self, **filters: str | None) -> list[Object]:
        """All ports the token may see. Filters: name, project_id, network_id, node, address (a pattern)."""
        return self._list("ports", filters)

    def get_port(self, port_id: str) -> Object:
        return self._get("ports", "port", port_id)

    def get_port_counters(self, port_id: str) -> Object:
        """What has passed a port and what has not, as its switch has counted."""
        counters: Object = part_of(self._call("GET", path_of("ports", port_id) + "/counters"), "counters", dict)
        return counters

    def trace(self, fields: Object) -> Object:
        """What becomes of a packet, in words. `fields`: port, from_address, to, protocol, ... as in POST /v1/trace."""
        return self._call("POST", "trace", fields)

    @contextmanager
    def capture(self, port_id: str, fields: Object) -> Iterator[Capture]:
        """What passes a port from now on: parts of a pcap file, as they come. Fields: seconds, packets, snaplen,
        filter. Leaving the `with` ends it.
        """
        path = f"{path_of('ports', port_id)}/captures"
        read_timeout = float(fields.get("seconds", 0)) + self._read_timeout
        answer = self._anywhere("POST", lambda url: self._open(url, path, fields, read_timeout))
        try:
            yield Capture(answer.headers.get("X-Capture-Id", ""), self.url, answer)
        finally:
            answer.close()

    def get_capture(self, port_id: str, capture_id: str) -> Object:
        """How a capture was that is over."""
        path = path_of(f"{path_of('ports', port_id)}/captures", capture_id)
        found: Object = part_of(self._call("GET", path), "capture", dict)
        return found

    def get_network_data(self, port_id: str) -> Object:
        """`network_data` and `network_config`: what the port's machine is configured with when it has no DHCP."""
        return self._call("GET", path_of("ports", port_id) + "/network-data")

    def get_metadata(self, port_id: str) -> Object:
        """What the port's machine is told of itself, as far as it was given."""
        metadata: Object = part_of(self._call("GET", path_of("ports", port_id) + "/metadata"), "metadata", dict)
        return metadata

    def update_metadata(self, port_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("ports", port_id) + "/metadata", "metadata", fields)

    def create_port(self, fields: Object) -> Written:
        return self._write("POST", "ports", "port", fields)

    def create_ports(self, ports: Sequence[Object]) -> tuple[list[Object], int]:
        """Up to 1000 ports in one transaction: all or none. Returns them and their revision."""
        answer = self._call("POST", "ports", {"ports": list(ports)})
        return part_of(answer, "ports", list), part_of(answer, "revision", int)

    def create_device_ports(self, fields: Object) -> tuple[list[Object], int]:
        """The ports of a machine (`device_id`) that names no network: all or none. Returns them and their revision."""
        answer = self._call("POST", "ports", fields)
        return part_of(answer, "ports", list), part_of(answer, "revision", int)

    def update_port(self, port_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("ports", port_id), "port", fields)

    def delete_port(self, port_id: str) -> Written:
        return self._write("DELETE", path_of("ports", port_id), "port")

    def list_node_ports(self, node: str, name: str) -> list[Object]:
        """Of that name, those that are the node's or may become it; for the node itself. What `plug` needs of them."""
        answer = self._call("GET", f"{_of_node(node)}?{urlencode({'name': name})}")
        found: list[Object] = part_of(answer, "ports", list)
        return found

    def get_node_port(self, node: str, port_id: str) -> Object:
        return self._get(_of_node(node), "port", port_id)

    def list_port_bindings(self, port_id: str) -> list[Object]:
        found: list[Object] = part_of(self._call("GET", _bindings(port_id)), "bindings", list)
        return found

    def create_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("POST", _bindings(port_id), "binding", {"node": node})

    def activate_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("PUT", f"{path_of(_bindings(port_id), node)}/activate", "binding")

    def delete_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("DELETE", path_of(_bindings(port_id), node), "binding")


def _bindings(port_id: str) -> str:
    return f"{path_of('ports', port_id)}/bindings"


def _of_node(node: str) -> str:
    return f"{path_of('nodes', node)}/ports"
