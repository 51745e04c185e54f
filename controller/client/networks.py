"""Networks, their addresses and who holds a lease of one."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from controller.client.resources import Resources, Written, part_of, path_of
from controller.client.transport import Object


class Networks(Resources):
    # networks

    def list_networks(self, **filters: str | None) -> list[Object]:
        """All networks the token may see. Filters: name, project_id."""
        return self._list("networks", filters)

    def get_network(self, network_id: str) -> Object:
        return self._get("networks", "network", network_id)

    def create_network(self, fields: Object) -> Written:
        return self._write("POST", "networks", "network", fields)

    def create_networks(self, fields: Object) -> tuple[list[Object], int]:
        """Many of one range, by `count` and `network_size`: all or none. Returns them and their revision."""
        answer = self._call("POST", "networks", fields)
        return part_of(answer, "networks", list), part_of(answer, "revision", int)

    def update_network(self, network_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("networks", network_id), "network", fields)

    def delete_network(self, network_id: str) -> Written:
        return self._write("DELETE", path_of("networks", network_id), "network")

    def associate_network(self, network_id: str, project_id: str) -> Written:
        return self._write("PUT", f"{path_of('networks', network_id)}/project", "network", {"project_id": project_id})

    def associate_free_network(self, project_id: str) -> Written:
        return self._write("POST", f"{path_of('projects', project_id)}/networks", "network", {})

    def disassociate_network(self, network_id: str) -> Written:
        return self._write("DELETE", f"{path_of('networks', network_id)}/project", "network")

    def scrub_project(self, project_id: str) -> Written:
        """`object`: the ids of what it has no more, in `networks` and `security_groups`."""
        return self._write("POST", f"{path_of('projects', project_id)}/scrub", "scrubbed")

    # addresses

    def list_addresses(self, network_id: str) -> list[Object]:
        """Those of a network that are, or were, in use or reserved."""
        return self._list(f"{path_of('networks', network_id)}/addresses", {}, "address", member="addresses")

    def reserve_address(self, network_id: str, address: str) -> Written:
        return self._write("PUT", f"{_address(network_id, address)}/reservation", "network")

    def unreserve_address(self, network_id: str, address: str) -> Written:
        return self._write("DELETE", f"{_address(network_id, address)}/reservation", "network")

    def release_address(self, network_id: str, address: str) -> Written:
        """Free an address that is kept because of a lease."""
        return self._write("DELETE", f"{_address(network_id, address)}/hold", "address")

    def address_history(self, *, address: str, **filters: str | None) -> list[Object]:
        """Who had an address, newest first, 1000 at most. Filters: network_id, at."""
        query = {"address": address} | {name: value for name, value in filters.items() if value is not None}
        answer = self._call("GET", f"address-history?{urlencode(query)}")
        found: list[Object] = part_of(answer, "address_history", list)
        return found

    def apply_address_plan(self, entries: Sequence[Object], check: bool) -> Written:
        """All or none; with `check` only what would be done."""
        return self._write("POST", "address-plans", "address_plan", {"entries": list(entries), "check": check})

    # leases

    def list_leases(self, **filters: str | None) -> list[Object]:
        """All leases of ports that the token may see. Filters: project_id, network_id, port_id, address, state."""
        return self._list("leases", filters)


def _address(network_id: str, address: str) -> str:
    return path_of(f"{path_of('networks', network_id)}/addresses", address)
