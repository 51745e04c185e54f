"""`trunkline security-group`: create, list, show, set, delete, and `rule` create, list, delete."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from controller.cli import names, options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import (
    InProject,
    Output,
    ProjectFilter,
    SecurityGroupArgument,
    SecurityGroupArguments,
    Timeout,
    Wait,
)
from controller.cli.render import Column, Format
from controller.cli.security_rule import FAMILY_COLUMN, SERVICE_COLUMNS, Direction, FamilyOption, RuleArguments, Service
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="Security groups: what machines may send and receive.", rich_markup_mode=None)
rule = typer.Typer(cls=Commands, help="The rules of security groups.", rich_markup_mode=None)
app.add_typer(rule, name="rule")

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("project", "project_id"),
    Column("stateful", "stateful"),
    Column("description", "description"),
)
RULE_COLUMNS = (
    Column("id", "id"),
    FAMILY_COLUMN,
    *SERVICE_COLUMNS,
    Column("remote cidr", "remote_cidr"),
    Column("remote group", "remote_group_id"),
    Column("description", "description"),
)


@dataclass(frozen=True, slots=True)
class Changeable:
    """The options of both `create` and `set`."""

    description: Annotated[str | None, typer.Option("--description")] = None
    stateful: Annotated[
        bool | None,
        typer.Option("--stateful/--stateless", help="Replies to what is allowed are allowed (they are by default)."),
    ] = None
    log_accepted: Annotated[
        bool | None, typer.Option("--log-accepted/--no-log-accepted", help="Report the connections that begin.")
    ] = None
    log_dropped: Annotated[
        bool | None, typer.Option("--log-dropped/--no-log-dropped", help="Report what nothing allows.")
    ] = None

    def fields(self) -> dict[str, Any]:
        """Those that were given."""
        return options.given(
            description=self.description,
            stateful=self.stateful,
            log_accepted=self.log_accepted,
            log_dropped=self.log_dropped,
        )


@app.command()
@options.grouped
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique in its project.")],
    changeable: Changeable,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The project that owns it.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a security group. It begins with the default rules."""
    session = Session.of(context)
    fields = options.given(name=name, project_id=project) | changeable.fields()
    session.finish(session.client.create_security_group(fields), output, wait, timeout, partial(_show, session))


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="Only those with this name.")] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List security groups."""
    groups = Session.of(context).client.list_security_groups(name=name, project_id=project)
    render.show_list(groups, COLUMNS, output)


@app.command()
def show(
    context: typer.Context, group: SecurityGroupArgument, project: InProject = None, output: Output = Format.TABLE
) -> None:
    """Show one security group with its rules."""
    session = Session.of(context)
    _show(session, session.security_group(group, project), output)


@app.command("set")
@options.grouped
def set_(
    context: typer.Context,
    group: SecurityGroupArgument,
    changeable: Changeable,
    name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a security group."""
    session = Session.of(context)
    changes = options.given(name=name) | changeable.fields()
    if not changes:
        raise CliError("nothing to change", ExitCode.USAGE)
    written = session.client.update_security_group(session.security_group_id(group, project), changes)
    session.finish(written, output, wait, timeout, partial(_show, session))


@app.command()
def delete(
    context: typer.Context,
    groups: SecurityGroupArguments,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete security groups that nothing uses."""
    session = Session.of(context)
    session.finish_deletes(
        groups,
        lambda group: session.security_group_id(group, project),
        session.client.delete_security_group,
        output,
        wait,
        timeout,
    )


def _show(session: Session, group: render.Object, output: Format) -> None:
    """As a table its rules are one of their own."""
    if output is not Format.TABLE or "rules" not in group:
        render.show_object(group, output)
        return
    render.show_object({name: value for name, value in group.items() if name != "rules"}, output)
    render.show_text("\nrules:")
    names.show_list(session, group["rules"], RULE_COLUMNS, output, names.REMOTE_GROUP)


@rule.command("create")
@options.grouped
def create_rule(
    context: typer.Context,
    group: SecurityGroupArgument,
    direction: Annotated[Direction, typer.Option("--direction", help="As the machine sees it.")],
    service: Service,
    remote_cidr: Annotated[
        str | None, typer.Option("--remote-cidr", metavar="CIDR", help="From or to there; default: anybody.")
    ] = None,
    remote_group: Annotated[
        str | None, typer.Option("--remote-group", metavar="GROUP", help="From or to members of this group.")
    ] = None,
    family: FamilyOption = None,
    log: Annotated[bool, typer.Option("--log", help="Report the connections that begin because of it.")] = False,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Let members of a group receive or send something."""
    session = Session.of(context)
    fields = options.given(
        direction=direction.value,
        family=family.value if family else None,
        remote_cidr=remote_cidr,
        log=log or None,
    )
    fields |= service.fields()
    fields["security_group_id"] = session.security_group_id(group, project)
    if remote_group is not None:
        fields["remote_group_id"] = session.security_group_id(remote_group, project)
    session.finish(session.client.create_security_group_rule(fields), output, wait, timeout)


@rule.command("list")
def list_rules(
    context: typer.Context, group: SecurityGroupArgument, project: InProject = None, output: Output = Format.TABLE
) -> None:
    """List the rules of a group."""
    session = Session.of(context)
    found = session.client.list_security_group_rules(security_group_id=session.security_group_id(group, project))
    names.show_list(session, found, RULE_COLUMNS, output, names.REMOTE_GROUP)


@rule.command("delete")
def delete_rules(
    context: typer.Context,
    rules: RuleArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete rules of security groups."""
    session = Session.of(context)
    session.finish_deletes(rules, str, session.client.delete_security_group_rule, output, wait, timeout)
