"""/v1/tokens: who may use the API. What a token is, is told once, by the answer that makes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, WithJsonSchema

from controller.api import declared, operator_answers, views
from controller.api.address_models import Moment
from controller.api.auth import ALL_SCOPES, SCOPES, Resource, Role, Verb, allowed_by
from controller.api.credentials import digest_of, new_token
from controller.api.errors import invalid
from controller.api.fields import Name, NodeName, ProjectId, RequestModel, Text
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json
from controller.store.specs import Written
from controller.store.token_specs import TokenRecord, TokenSpec

MAX_SCOPES = 32
MAX_GRACE = 7 * 86400
MAX_LIFE = 100 * 365 * 86400


_OF_SCOPE = {"type": "string", "enum": [f"{name}:{way}" for name in (ALL_SCOPES, *SCOPES) for way in ("read", "write")]}
Scope = Annotated[Text, WithJsonSchema(_OF_SCOPE)]


class TokenCreate(RequestModel):
    """`scopes`: what it is narrowed to, NAME:read or NAME:write; none: all that its role may."""

    name: Name
    role: Role
    project_id: ProjectId | None = None
    node: NodeName | None = None
    scopes: Annotated[list[Scope], Field(max_length=MAX_SCOPES)] = Field(default_factory=list)
    expires_at: Moment | None = None


class TokenRotate(RequestModel):
    """`grace`: seconds for which what it was is still good."""

    grace: Annotated[int, Field(ge=0, le=MAX_GRACE)] = 0


TOKEN_CREATE = TypeAdapter(TokenCreate)
TOKEN_ROTATE = TypeAdapter(TokenRotate)


def list_tokens(services: Services, request: Request) -> Answer:
    records = services.store.list_tokens(**request.page())
    return Answer.json({"tokens": [_view(record, services.tokens.clock()) for record in records]})


def show_token(services: Services, request: Request) -> Answer:
    return Answer.json({"token": _view(services.store.get_token(request.params["id"]), services.tokens.clock())})


def create_token(services: Services, request: Request) -> Answer:
    body = request.parse(TOKEN_CREATE)
    if (body.project_id is not None) != (body.role is Role.MEMBER):
        raise invalid("project_id", "a member needs one, and no other role has one")
    if body.node is not None and body.role is not Role.AGENT:
        raise invalid("node", "only an agent has one")
    for index, scope in enumerate(body.scopes):
        try:
            allowed_by([scope])
        except ValueError as error:
            raise invalid(f"scopes.{index}", str(error)) from None
    expires_at = body.expires_at
    if expires_at is not None and not 0 < expires_at - services.tokens.clock() <= MAX_LIFE:
        raise invalid("expires_at", "must be in the future, and at most a hundred years away")
    secret = new_token()
    owner = body.project_id or body.node
    spec = TokenSpec(body.name, body.role.value, owner, tuple(body.scopes), digest_of(secret), expires_at)
    return _told(services, services.store.create_token(spec, request.caller.actor), secret, 201)


def rotate_token(services: Services, request: Request) -> Answer:
    grace = request.parse(TOKEN_ROTATE).grace if request.body else 0
    secret = new_token()
    written = services.store.rotate_token(request.params["id"], digest_of(secret), grace, request.caller.actor)
    return _told(services, written, secret, 200)


def revoke_token(services: Services, request: Request) -> Answer:
    written = services.store.revoke_token(request.params["id"], request.caller.actor)
    services.tokens.refresh()
    return Answer.json({"token": _view(written.value, services.tokens.clock()), "revision": written.revision})


def _told(services: Services, written: Written[TokenRecord], secret: str, status: int) -> Answer:
    services.tokens.refresh()
    token = _view(written.value, services.tokens.clock()) | {"secret": secret}
    return Answer.json({"token": token, "revision": written.revision}, status)


def _view(record: TokenRecord, now: float) -> Json:
    def at(seconds: float | None) -> str | None:
        return None if seconds is None else views.time_of(seconds)

    return {
        "id": record.id,
        "name": record.name,
        "role": record.role,
        "project_id": record.scope if record.role == Role.MEMBER else None,
        "node": record.scope if record.role == Role.AGENT else None,
        "scopes": list(record.scopes),
        "state": _state(record, now),
        "created_at": at(record.created_at),
        "expires_at": at(record.expires_at),
        "previous_until": at(record.previous_until),
        "last_used_at": at(record.last_used_at),
        "revoked_at": at(record.revoked_at),
        "revision": record.revision,
    }


def _state(record: TokenRecord, now: float) -> str:
    if record.revoked_at is not None:
        return "revoked"
    return "expired" if record.expires_at is not None and now >= record.expires_at else "active"


_TOLD = declared.written(token=operator_answers.NewToken)
ROUTES = (
    Route(
        "/v1/tokens",
        Resource.TOKEN,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_tokens,
                declared.shown(tokens=list[operator_answers.Token]),
                query=declared.page("name", "role"),
            ),
            "POST": Endpoint(Verb.CREATE, create_token, _TOLD, status=201, bodies=(TOKEN_CREATE,)),
        },
    ),
    Route(
        "/v1/tokens/{id}",
        Resource.TOKEN,
        {
            "GET": Endpoint(Verb.SHOW, show_token, declared.shown(token=operator_answers.Token)),
            "DELETE": Endpoint(Verb.DELETE, revoke_token, declared.written(token=operator_answers.Token)),
        },
    ),
    Route(
        "/v1/tokens/{id}/rotate",
        Resource.TOKEN,
        {"POST": Endpoint(Verb.UPDATE, rotate_token, _TOLD, bodies=(TOKEN_ROTATE,), optional=True)},
    ),
)
