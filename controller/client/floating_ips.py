"""Floating IPs, their pools, and ports that are forwarded."""

from __future__ import annotations

from controller.client.resources import Resources, Written, part_of, path_of
from controller.client.transport import Object


class FloatingIps(Resources):
    def list_floating_ip_pools(self, **filters: str | None) -> list[Object]:
        """All pools, by name. Filters: name, network_id."""
        return self._list("floating-ip-pools", filters)

    def get_floating_ip_pool(self, reference: str) -> Object:
        """By id or name."""
        return self._get("floating-ip-pools", "floating_ip_pool", reference)

    def create_floating_ip_pool(self, fields: Object) -> Written:
        return self._write("POST", "floating-ip-pools", "floating_ip_pool", fields)

    def delete_floating_ip_pool(self, reference: str) -> Written:
        return self._write("DELETE", path_of("floating-ip-pools", reference), "floating_ip_pool")

    def list_floating_ips(self, **filters: str | None) -> list[Object]:
        """All floating IPs the token may see. Filters: project_id, pool, port_id, address, node."""
        return self._list("floating-ips", filters)

    def get_floating_ip(self, floating_ip_id: str) -> Object:
        return self._get("floating-ips", "floating_ip", floating_ip_id)

    def create_floating_ip(self, fields: Object) -> Written:
        return self._write("POST", "floating-ips", "floating_ip", fields)

    def create_floating_ips(self, fields: Object) -> tuple[list[Object], int]:
        """Up to 1000 in one transaction, by `count` or `addresses`: all or none. Returns them and their revision."""
        answer = self._call("POST", "floating-ips", fields)
        return part_of(answer, "floating_ips", list), part_of(answer, "revision", int)

    def update_floating_ip(self, floating_ip_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("floating-ips", floating_ip_id), "floating_ip", fields)

    def delete_floating_ip(self, floating_ip_id: str) -> Written:
        return self._write("DELETE", path_of("floating-ips", floating_ip_id), "floating_ip")

    def list_port_forwardings(self, floating_ip_id: str) -> list[Object]:
        answer = self._call("GET", _forwardings(floating_ip_id))
        found: list[Object] = part_of(answer, "port_forwardings", list)
        return found

    def get_port_forwarding(self, floating_ip_id: str, forwarding_id: str) -> Object:
        return self._get(_forwardings(floating_ip_id), "port_forwarding", forwarding_id)

    def create_port_forwarding(self, floating_ip_id: str, fields: Object) -> Written:
        return self._write("POST", _forwardings(floating_ip_id), "port_forwarding", fields)

    def delete_port_forwarding(self, floating_ip_id: str, forwarding_id: str) -> Written:
        return self._write("DELETE", path_of(_forwardings(floating_ip_id), forwarding_id), "port_forwarding")


def _forwardings(floating_ip_id: str) -> str:
    return f"{path_of('floating-ips', floating_ip_id)}/port-forwardings"
