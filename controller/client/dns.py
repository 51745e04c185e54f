"""DNS zones and their records."""

from __future__ import annotations

from controller.client.resources import Resources, Written, path_of
from controller.client.transport import Object


class Dns(Resources):
    def list_dns_zones(self, **filters: str | None) -> list[Object]:
        """All zones the token may see: its project's, and public ones. Filters: name, project_id, scope."""
        return self._list("dns-zones", filters)

    def get_dns_zone(self, zone_id: str) -> Object:
        return self._get("dns-zones", "dns_zone", zone_id)

    def create_dns_zone(self, fields: Object) -> Written:
        return self._write("POST", "dns-zones", "dns_zone", fields)

    def update_dns_zone(self, zone_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("dns-zones", zone_id), "dns_zone", fields)

    def delete_dns_zone(self, zone_id: str) -> Written:
        """With all its records."""
        return self._write("DELETE", path_of("dns-zones", zone_id), "dns_zone")

    def list_dns_records(self, **filters: str | None) -> list[Object]:
        """Filters: zone_id, fqdn, type, data, floating_ip_id, project_id."""
        return self._list("dns-records", filters)

    def get_dns_record(self, record_id: str) -> Object:
        return self._get("dns-records", "dns_record", record_id)

    def create_dns_record(self, fields: Object) -> Written:
        return self._write("POST", "dns-records", "dns_record", fields)

    def update_dns_record(self, record_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("dns-records", record_id), "dns_record", fields)

    def delete_dns_record(self, record_id: str) -> Written:
        return self._write("DELETE", path_of("dns-records", record_id), "dns_record")
