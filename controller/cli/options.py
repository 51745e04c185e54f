"""Options that several commands share, and the small languages of option values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from controller.bounds import FIRST_VLAN, LAST_VLAN
from controller.cli.render import Format

T = TypeVar("T")

NONE = "none"
"""What `set` takes to empty a field."""

Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the answer.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the nodes have confirmed the change.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds that --wait may take.", metavar="SECONDS")]

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help="Name or id.")]
NetworkArguments = Annotated[list[str], typer.Argument(metavar="NETWORK", help="Names or ids.")]
PortArgument = Annotated[str, typer.Argument(metavar="PORT", help="Name or id.")]
PortArguments = Annotated[list[str], typer.Argument(metavar="PORT", help="Names or ids.")]
PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="Name or id.")]
PoolArguments = Annotated[list[str], typer.Argument(metavar="POOL", help="Names or ids.")]
FloatingIpArgument = Annotated[str, typer.Argument(metavar="FLOATING-IP", help="Address or id.")]
FloatingIpArguments = Annotated[list[str], typer.Argument(metavar="FLOATING-IP", help="Addresses or ids.")]
FixedIp = Annotated[
    str | None, typer.Option("--fixed-ip", metavar="ADDRESS", help="Which address of the port; default: its first.")
]
SecurityGroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Name or id.")]
SecurityGroupArguments = Annotated[list[str], typer.Argument(metavar="GROUP", help="Names or ids.")]
ZoneArgument = Annotated[str, typer.Argument(metavar="ZONE", help="Name or id.")]
ZoneArguments = Annotated[list[str], typer.Argument(metavar="ZONE", help="Names or ids.")]
InProject = Annotated[
    str | None, typer.Option("--project", metavar="ID", help="The project in which the name is meant (administrators).")
]
ProjectFilter = Annotated[str | None, typer.Option("--project", metavar="ID", help="Only those of this project.")]
DhcpOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--dhcp-option", metavar="CODE[:TYPE]=VALUE", help="A free DHCP option, e.g. 66=10.0.0.2 (may be repeated)."
    ),
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses become one option for each field: what several commands share."""
    declared = signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: item.annotation for name, item in declared.parameters.items() if is_dataclass(item.annotation)
    }
    parameters: list[Parameter] = []
    for name, item in declared.parameters.items():
        if name not in groups:
            parameters.append(item)
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            Parameter(field.name, item.kind, default=field.default, annotation=hints[field.name])
            for field in fields(groups[name])
        ]

    @wraps(command)
    def run(**given: Any) -> None:
        made = {name: group(**{field.name: given.pop(field.name) for field in fields(group)})
                for name, group in groups.items()}  # fmt: skip
        command(**given, **made)

    run.__signature__ = declared.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


def given(**fields: Any) -> dict[str, Any]:
    """Only what was given: the server has the defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def each(option: str, texts: Sequence[str] | None, parse: Callable[[str], T]) -> list[T] | None:
    """A repeatable option: None when not given, empty for the one word `none`. Raises BadParameter."""
    if not texts:
        return None
    if list(texts) == [NONE]:
        return []
    if NONE in texts:
        raise typer.BadParameter(f"'{NONE}' stands alone: leave the others out, or it", param_hint=option)
    values = []
    for text in texts:
        try:
            values.append(parse(text))
        except ValueError as error:
            raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from error
    return values


def nullable(field: str, text: str | None, word: str = NONE) -> dict[str, str | None]:
    """For `set`: nothing when not given, null for the word `none` or another, else the text."""
    return {} if text is None else {field: None if text == word else text}


def dhcp_options(texts: Sequence[str] | None) -> list[dict[str, Any]] | None:
    return each("--dhcp-option", texts, dhcp_option)


def dhcp_option(text: str) -> dict[str, Any]:
    """`CODE=VALUE` or `CODE:TYPE=VALUE`. Raises ValueError."""
    head, separator, value = text.partition("=")
    code, _, type_ = head.partition(":")
    if not separator or not (code.isascii() and code.isdigit()):
        raise ValueError("not of the form CODE=VALUE")
    return {"code": int(code), "value": value, **({"type": type_} if type_ else {})}


def address_range(text: str) -> dict[str, str]:
    """`FIRST-LAST`. Raises ValueError."""
    first, separator, last = (part.strip() for part in text.partition("-"))
    if not (first and separator and last):
        raise ValueError("not of the form FIRST-LAST")
    return {"first": first, "last": last}


def reserved(text: str) -> str | dict[str, str]:
    """`ADDRESS` or `FIRST-LAST`. Raises ValueError."""
    return address_range(text) if "-" in text else text


def host_route(text: str) -> dict[str, str]:
    """`DESTINATION,NEXTHOP`. Raises ValueError."""
    destination, separator, next_hop = (part.strip() for part in text.partition(","))
    if not (destination and separator and next_hop):
        raise ValueError("not of the form DESTINATION,NEXTHOP")
    return {"destination": destination, "next_hop": next_hop}


def segment(text: str | None) -> int | None:
    """A VLAN id, or None for `auto`: the server takes the next free one. Raises BadParameter."""
    if text is None or text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and FIRST_VLAN <= int(text) <= LAST_VLAN):
        raise typer.BadParameter(f"{text!r} is neither {FIRST_VLAN} to {LAST_VLAN} nor 'auto'", param_hint="--vlan")
    return int(text)
