"""What a request must be to reach the handler of its path: of a method that is there, by a caller that may."""

from __future__ import annotations

from controller.api.auth import Identity
from controller.api.errors import ApiError, forbidden
from controller.api.http import Endpoint, Route


def endpoint_of(place: Route, method: str) -> Endpoint:
    """Raises ApiError 405."""
    endpoint = place.endpoints.get("GET" if method == "HEAD" else method)
    if endpoint is None:
        raise ApiError(405, "method_not_allowed", f"possible here: {place.allow}", headers=(("Allow", place.allow),))
    return endpoint


def permit(place: Route, endpoint: Endpoint, identity: Identity | None) -> None:
    """Raises ApiError 403."""
    if not place.public and (identity is None or not identity.may(place.resource, endpoint.verb)):
        raise forbidden(f"the role of this token may not {endpoint.verb} {place.resource}")
