"""Tokens, quotas, and who has changed what."""

from __future__ import annotations

from urllib.parse import urlencode

from controller.client.resources import PAGE, Resources, Written, part_of, path_of
from controller.client.transport import Object


class Access(Resources):
    # tokens, and who has changed what

    def list_tokens(self, **filters: str | None) -> list[Object]:
        """Filters: name, role."""
        return self._list("tokens", filters)

    def get_token(self, token_id: str) -> Object:
        return self._get("tokens", "token", token_id)

    def create_token(self, fields: Object) -> Written:
        """Its `secret` is told this once."""
        return self._write("POST", "tokens", "token", fields)

    def rotate_token(self, token_id: str, grace: int = 0) -> Written:
        """It becomes another one, whose `secret` is told this once; what it was is good for `grace` seconds more."""
        return self._write("POST", f"{path_of('tokens', token_id)}/rotate", "token", {"grace": grace})

    def revoke_token(self, token_id: str) -> Written:
        return self._write("DELETE", path_of("tokens", token_id), "token")

    def list_audit(self, limit: int | None = None, **filters: str | None) -> list[Object]:
        """The newest first, `limit` of them at most. Filters: kind, object, actor, since."""
        query = {name: value for name, value in filters.items() if value is not None}
        found: list[Object] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            answer = self._call("GET", f"audit?{urlencode({**query, 'limit': str(size)})}")
            found += part_of(answer, "audit", list)
            if answer.get("marker") is None:
                break
            query["marker"] = str(answer["marker"])
        return found

    # quotas

    def get_quota(self, project_id: str) -> Object:
        return self._get("quotas", "quota", project_id)

    def update_quota(self, project_id: str, fields: Object) -> Written:
        return self._write("PATCH", path_of("quotas", project_id), "quota", fields)
