"""What the API answers about itself: tokens, who has changed what, and the controllers; `answers` has the rest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from controller.api.answers import Revision, Time
from controller.api.auth import Role
from controller.events.ring import Kind


class Token(TypedDict):
    """`previous_until`: until then what it was before it was rotated is good, too."""

    id: str
    name: str
    role: Annotated[str, WithJsonSchema({"type": "string", "enum": [*Role]})]
    project_id: str | None
    node: str | None
    scopes: list[str]
    state: Annotated[str, WithJsonSchema({"type": "string", "enum": ["active", "expired", "revoked"]})]
    created_at: Time | None
    expires_at: Time | None
    previous_until: Time | None
    last_used_at: Time | None
    revoked_at: Time | None
    revision: Revision


class NewToken(Token):
    """`secret` is told this once."""

    secret: str


class Audit(TypedDict):
    """`old` and `new`: the object before and after, as the journal has it."""

    revision: int
    at: Time
    kind: str
    object: str
    action: str
    actor: str
    token: str | None
    address: str | None
    request_id: str | None
    old: dict[str, Any] | None
    new: dict[str, Any] | None


class Event(TypedDict):
    """`text` is for people. `node`: on which it has happened."""

    id: int
    at: Time
    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": [*Kind]})]
    text: str
    port_id: str | None
    network_id: str | None
    node: str | None


class Drop(TypedDict):
    """What a rule has dropped, and, where it is about one, of which object. `text`: why, for people. `normal`: it drops
    packets of a healthy cloud as well.
    """

    rule: str
    text: str
    normal: bool
    port_id: str | None
    port_name: str | None
    network_id: str | None
    network_name: str | None
    node: str
    packets: int
    bytes: int


class PlannedAnswer(TypedDict):
    """What a request would be answered; `body` as it stands there."""

    status: int
    body: dict[str, Any] | None


class PlannedChange(TypedDict):
    before: str
    after: str


class NodePlan(TypedDict):
    """How many flows a node would get, lose, and have with other actions; and some of them, as ovs-ofctl spells flows,
    with words behind #. `meters`: + what it would get, - what it would lose. `problems`: what cannot be computed.
    """

    node: str
    adds: int
    deletes: int
    changes: int
    add: list[str]
    delete: list[str]
    change: list[PlannedChange]
    meters: list[str]
    problems: list[str]


class Quarantined(TypedDict):
    kind: str
    id: str
    name: str
    node: Annotated[str | None, Field(description="Where it has no flows; null: nobody can use it")]
    why: str


class Controller(TypedDict):
    """`nodes`: whose switches obey it; `leader`: it does what is to be done once."""

    name: str
    api_url: str
    leader: bool
    nodes: list[str]
    connected_nodes: int
    started_at: Time
