"""Names in place of ids, in tables. JSON and YAML keep the ids: they are for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from controller.cli import render
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import ApiError, Client, Object


@dataclass(frozen=True, slots=True)
class Reference:
    """`field` holds the id of another object, of which `shown` is what people know it by."""

    field: str
    shown: str
    listed: Callable[[Client], list[Object]]


FLOATING_IP = Reference("floating_ip_id", "address", Client.list_floating_ips)
NETWORK = Reference("network_id", "name", Client.list_networks)
PORT = Reference("port_id", "name", Client.list_ports)
REMOTE_GROUP = Reference("remote_group_id", "name", Client.list_security_groups)


def show_list(
    session: Session, things: Sequence[Object], columns: Sequence[Column], output: Format, *references: Reference
) -> None:
    """As `render.show_list`; in a table the references are shown as names. What nothing refers to is not asked for."""
    if output is Format.TABLE:
        for reference in references:
            if any(thing.get(reference.field) for thing in things):
                things = instead(things, reference, if_allowed(partial(reference.listed, session.client)) or ())
    render.show_list(things, columns, output)


def instead(things: Iterable[Object], reference: Reference, known: Iterable[Object]) -> list[Object]:
    """The objects, with names where they have ids of what is `known`; an id stays where it is not, or has no name."""
    names = {one["id"]: one.get(reference.shown) for one in known}
    ids = [(thing, thing.get(reference.field)) for thing in things]
    return [{**thing, reference.field: names.get(id_) or id_} for thing, id_ in ids]


def if_allowed(listed: Callable[[], list[Object]]) -> list[Object] | None:
    """None for a token that may not see them."""
    try:
        return listed()
    except ApiError as error:
        if error.code == "forbidden":
            return None
        raise
