"""`trunkline default-rule` and `provider-rule`, and the options that all kinds of rules have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from controller.cli import options, render
from controller.cli.group import Commands
from controller.cli.options import Output, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session

default_rule = typer.Typer(
    cls=Commands, help="What new security groups begin with (administrators).", rich_markup_mode=None
)
provider_rule = typer.Typer(
    cls=Commands, help="What is dropped for all machines (administrators).", rich_markup_mode=None
)


class Direction(StrEnum):
    """As flows.model.Direction; written here again because the command does not load the model."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Family(StrEnum):
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class AppliesTo(StrEnum):
    DEFAULT = "default"
    OTHER = "other"
    ALL = "all"


SERVICE_COLUMNS = (
    Column("direction", "direction"),
    Column("protocol", "protocol"),
    Column("ports", "ports"),
    Column("icmp type", "icmp_type"),
    Column("icmp code", "icmp_code"),
)
FAMILY_COLUMN = Column("family", "family")
DEFAULT_COLUMNS = (
    Column("id", "id"),
    Column("applies to", "applies_to"),
    FAMILY_COLUMN,
    *SERVICE_COLUMNS,
    Column("remote cidr", "remote_cidr"),
    Column("own group", "own_group"),
)
PROVIDER_COLUMNS = (Column("id", "id"), *SERVICE_COLUMNS, Column("cidr", "cidr"), Column("description", "description"))

FamilyOption = Annotated[
    Family | None, typer.Option("--family", help="What the range or icmpv6 says, else ipv4.", show_default=False)
]
RuleArguments = Annotated[list[str], typer.Argument(metavar="RULE", help="Their ids.")]


@dataclass(frozen=True, slots=True)
class Service:
    """The options about what a rule is about."""

    protocol: Annotated[
        str | None,
        typer.Option("--protocol", metavar="NAME|NUMBER", help="tcp, udp, icmp, icmpv6 or another; default: all."),
    ] = None
    ports: Annotated[
        str | None, typer.Option("--ports", metavar="N|FIRST-LAST", help="Destination ports of tcp or udp.")
    ] = None
    icmp_type: Annotated[int | None, typer.Option("--icmp-type", min=0, max=255)] = None
    icmp_code: Annotated[int | None, typer.Option("--icmp-code", min=0, max=255)] = None
    description: Annotated[str | None, typer.Option("--description")] = None

    def fields(self) -> dict[str, Any]:
        """Those that were given."""
        text = self.protocol
        return options.given(
            protocol=int(text) if text is not None and text.isascii() and text.isdigit() else text,
            ports=self.ports,
            icmp_type=self.icmp_type,
            icmp_code=self.icmp_code,
            description=self.description,
        )


@default_rule.command("create")
@options.grouped
def create_default(
    context: typer.Context,
    direction: Annotated[Direction, typer.Option("--direction", help="As the machine sees it.")],
    service: Service,
    remote_cidr: Annotated[str | None, typer.Option("--remote-cidr", metavar="CIDR", help="Default: anybody.")] = None,
    own_group: Annotated[bool, typer.Option("--own-group", help="From or to members of the same group.")] = False,
    family: FamilyOption = None,
    applies_to: Annotated[
        AppliesTo | None, typer.Option("--applies-to", help="The groups called default, others, or all (the default).")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have groups that are made from now on begin with a rule."""
    session = Session.of(context)
    fields = options.given(
        direction=direction.value,
        family=family.value if family else None,
        remote_cidr=remote_cidr,
        own_group=own_group or None,
        applies_to=applies_to.value if applies_to else None,
    )
    session.finish(session.client.create_default_rule(fields | service.fields()), output, wait, timeout)


@default_rule.command("list")
def list_default(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List what new groups begin with."""
    render.show_list(Session.of(context).client.list_default_rules(), DEFAULT_COLUMNS, output)


@default_rule.command("delete")
def delete_default(
    context: typer.Context,
    rules: RuleArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete rules of the template. Groups that have them keep them."""
    session = Session.of(context)
    session.finish_deletes(rules, str, session.client.delete_default_rule, output, wait, timeout)


@provider_rule.command("create")
@options.grouped
def create_provider(
    context: typer.Context,
    cidr: Annotated[str, typer.Argument(metavar="CIDR", help="What is dropped from there and to there.")],
    service: Service,
    direction: Annotated[
        Direction | None, typer.Option("--direction", help="Only what machines receive, or send; default: both.")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Drop something for all machines, whatever their security groups say."""
    session = Session.of(context)
    fields = options.given(cidr=cidr, direction=direction.value if direction else None) | service.fields()
    session.finish(session.client.create_provider_rule(fields), output, wait, timeout)


@provider_rule.command("list")
def list_provider(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List what is dropped for all machines."""
    render.show_list(Session.of(context).client.list_provider_rules(), PROVIDER_COLUMNS, output)


@provider_rule.command("delete")
def delete_provider(
    context: typer.Context,
    rules: RuleArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Drop it no more."""
    session = Session.of(context)
    session.finish_deletes(rules, str, session.client.delete_provider_rule, output, wait, timeout)
