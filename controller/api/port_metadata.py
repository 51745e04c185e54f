"""/v1/ports/{id}/metadata: what the machine of a port is told of itself."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, TypeAdapter, WithJsonSchema

from controller.api import answers, declared
from controller.api.auth import ADMIN_METADATA_FIELDS, Resource, Role, Verb
from controller.api.errors import forbidden
from controller.api.fields import Printable, RequestModel, Text, printable
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.ports import owned
from controller.api.services import Services
from controller.api.views import Json
from controller.store.metadata_specs import MachineRecord

MOST_USER_DATA = 1 << 16
MOST_VENDOR_DATA = 1 << 16
"""Bytes; of vendor data as JSON."""
MOST_KEYS = 32
MOST_META = 128
MOST_KEY_LENGTH = 8192
"""An RSA key of 16384 bits has less than 3000 characters; certificates are longer."""


def _public_key(text: str) -> str:
    kind, _, rest = printable(text).partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except ValueError:
        blob = b""
    # RFC 4253, 6.6: the blob begins with its kind as a string
    if not kind or not blob.startswith(len(kind).to_bytes(4) + kind.encode()):
        raise ValueError("must be a line of authorized_keys without options, such as ssh-ed25519 AAAA... NAME")
    return text


def _user_data(value: object) -> bytes | None:
    try:
        data = base64.b64decode(value or "", validate=True) if isinstance(value, str | None) else None
    except ValueError:  # binascii.Error is one
        data = None
    if data is None:
        raise ValueError("must be base64")
    if len(data) > MOST_USER_DATA:
        raise ValueError(f"may have {MOST_USER_DATA} bytes, not {len(data)}")
    return data or None


def _vendor_data(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value)
    if "\\u0000" in text:
        raise ValueError("must not hold NUL")  # PostgreSQL refuses it
    if len(text) > MOST_VENDOR_DATA:
        raise ValueError(f"may have {MOST_VENDOR_DATA} bytes as JSON, not {len(text)}")
    return value


KeyName = Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9 .@_+-]*$")]
PublicKey = Annotated[
    str,
    StringConstraints(max_length=MOST_KEY_LENGTH),
    AfterValidator(_public_key),
    Field(json_schema_extra={"format": "ssh-public-key"}),
]
_OF_BASE64 = {"anyOf": [{"type": "string", "contentEncoding": "base64", "format": "base64"}, {"type": "null"}]}
UserData = Annotated[bytes | None, PlainValidator(_user_data), WithJsonSchema(_OF_BASE64)]
VendorData = Annotated[dict[str, Any], AfterValidator(_vendor_data)]
MetaName = Annotated[Printable, StringConstraints(min_length=1, max_length=255)]


class MetadataUpdate(RequestModel):
    """What is left out stays as it is. null and what is empty: none. A password can be forgotten, and not be set."""

    public_keys: Annotated[dict[KeyName, PublicKey], Field(max_length=MOST_KEYS)] = {}
    user_data: UserData = None
    vendor_data: VendorData | None = None
    meta: Annotated[dict[MetaName, Text], Field(max_length=MOST_META)] = {}
    availability_zone: Text = ""
    instance_type: Text = ""
    password: None = None

    def changes(self) -> dict[str, Any]:
        """What was sent."""
        return {name: value for name, value in self if name in self.model_fields_set}


METADATA_UPDATE = TypeAdapter(MetadataUpdate)


def show_metadata(services: Services, request: Request) -> Answer:
    port = owned(services, request.caller, request.params["id"]).port
    return Answer.json({"metadata": _view(services.store.get_metadata(port.id))})


def update_metadata(services: Services, request: Request) -> Answer:
    body = request.parse(METADATA_UPDATE)
    port = owned(services, request.caller, request.params["id"]).port
    if request.caller.role is not Role.ADMIN:
        for name in sorted(ADMIN_METADATA_FIELDS & body.model_fields_set):
            raise forbidden(f"{name} is for administrators", name)
    written = services.store.update_metadata(port.id, body.changes(), request.caller.actor)
    return Answer.json({"metadata": _view(written.value), "revision": written.revision})


def _view(record: MachineRecord) -> Json:
    it = record.metadata
    return {
        "machine_id": record.machine_id,
        "ports": list(record.port_ids),
        "public_keys": dict(it.public_keys),
        "user_data": None if it.user_data is None else base64.b64encode(it.user_data).decode(),
        "vendor_data": it.vendor_data,
        "meta": dict(it.meta),
        "availability_zone": it.availability_zone,
        "instance_type": it.instance_type,
        "password": it.password,
    }


ROUTES = (
    Route(
        "/v1/ports/{id}/metadata",
        Resource.PORT_METADATA,
        {
            "GET": Endpoint(Verb.SHOW, show_metadata, declared.shown(metadata=answers.Metadata)),
            "PATCH": Endpoint(
                Verb.UPDATE,
                update_metadata,
                declared.written(metadata=answers.Metadata),
                bodies=(METADATA_UPDATE,),
                many=True,
            ),
        },
    ),
)
