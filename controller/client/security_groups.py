"""Security groups and their rules, those of new groups, and those of the provider."""

from __future__ import annotations

from collections.abc import Sequence

from controller.client.resources import Resources, Written, part_of, path_of
from controller.client.transport import Object


class SecurityGroups(Resources):
    def list_security_groups(self, **filters: str | None) -> list[Object]:
        """All groups the token may see, without their rules. Filters: name, project_id."""
        return self._list("security-groups", filters)

    def get_security_group(self, group_id: str) -> Object:
        return self._get("security-groups", "security_group", group_id)

    def create_security_group(self, fields: Object) -> Written:
        return self._write("POST", "security-groups", "security_group", fields)

    def update_security_group(self, group_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("security-groups", group_id), "security_group", fields)

    def delete_security_group(self, group_id: str) -> Written:
        return self._write("DELETE", path_of("security-groups", group_id), "security_group")

    def list_security_group_rules(self, **filters: str | None) -> list[Object]:
        """Filters: security_group_id, project_id."""
        return self._list("security-group-rules", filters)

    def create_security_group_rule(self, fields: Object) -> Written:
        return self._write("POST", "security-group-rules", "security_group_rule", fields)

    def create_security_group_rules(self, rules: Sequence[Object]) -> tuple[list[Object], int]:
        """Up to 1000 in one transaction: all or none. Returns them and their revision."""
        answer = self._call("POST", "security-group-rules", {"security_group_rules": list(rules)})
        return part_of(answer, "security_group_rules", list), part_of(answer, "revision", int)

    def delete_security_group_rule(self, rule_id: str) -> Written:
        return self._write("DELETE", path_of("security-group-rules", rule_id), "security_group_rule")

    def list_default_rules(self, **filters: str | None) -> list[Object]:
        return self._list("default-security-group-rules", filters)

    def create_default_rule(self, fields: Object) -> Written:
        return self._write("POST", "default-security-group-rules", "default_security_group_rule", fields)

    def delete_default_rule(self, rule_id: str) -> Written:
        path = path_of("default-security-group-rules", rule_id)
        return self._write("DELETE", path, "default_security_group_rule")

    def list_provider_rules(self, **filters: str | None) -> list[Object]:
        return self._list("provider-rules", filters)

    def create_provider_rule(self, fields: Object) -> Written:
        return self._write("POST", "provider-rules", "provider_rule", fields)

    def delete_provider_rule(self, rule_id: str) -> Written:
        return self._write("DELETE", path_of("provider-rules", rule_id), "provider_rule")
