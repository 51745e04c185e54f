"""The `trunkline` command: its options, its groups and its entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from controller.cli import (
    address,
    audit,
    capture,
    controller,
    dns_record,
    dns_zone,
    drops,
    events,
    floating_ip,
    floating_ip_pool,
    imports,
    lease,
    metadata,
    network,
    network_project,
    node,
    pki,
    plan,
    plug,
    port,
    port_binding,
    port_forwarding,
    quota,
    security_group,
    security_rule,
    status,
    subnet,
    token,
    trace,
)
from controller.cli.group import PROGRAM, Root
from controller.cli.session import Session

HELP = """Run the networks of a Trunkline cloud.

\b
Address and token of the controller come from the options, or from
TRUNKLINE_URL and TRUNKLINE_TOKEN, or from ~/.config/trunkline/cli.yaml or
/etc/trunkline/cli.yaml ("url: ..." and "token: ..."). Of several addresses,
with commas between them, the first that answers is asked. The same for the
files that https:// needs: TRUNKLINE_CA, and TRUNKLINE_CERTIFICATE and
TRUNKLINE_KEY where the controller demands a certificate.

\b
Exit codes:
  0  done
  1  refused, by the server or (plug, unplug) by this machine
  2  usage: a wrong option, an ambiguous name, no token
  3  the server does not answer
  4  written, but --wait timed out; the missing nodes are named
"""

_COMPLETION = f"_{PROGRAM.upper()}_COMPLETE"
# of the root's options those that are followed by a value
_WITH_VALUE = frozenset({"--url", "--token", "--ca", "--certificate", "--key"})
# what calls others
_NEEDS_ALL = frozenset({"plan"})

app = typer.Typer(
    name=PROGRAM,
    cls=Root,
    help=HELP,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(network.app, name="network")
network.app.command()(network_project.associate)
network.app.command()(network_project.disassociate)
app.add_typer(network_project.project, name="project")
app.add_typer(address.app, name="address")
app.add_typer(subnet.app, name="subnet")
app.add_typer(port.app, name="port")
app.add_typer(port_binding.app, name="port-binding")
app.add_typer(metadata.app, name="metadata")
app.add_typer(floating_ip_pool.app, name="floating-ip-pool")
app.add_typer(floating_ip.app, name="floating-ip")
app.add_typer(port_forwarding.app, name="port-forwarding")
app.add_typer(lease.app, name="lease")
app.add_typer(quota.app, name="quota")
app.add_typer(security_group.app, name="security-group")
app.add_typer(security_rule.default_rule, name="default-rule")
app.add_typer(security_rule.provider_rule, name="provider-rule")
app.add_typer(dns_zone.app, name="zone")
app.add_typer(dns_record.app, name="record")
app.add_typer(node.app, name="node")
app.add_typer(token.app, name="token")
app.add_typer(imports.app, name="import")
app.command()(audit.audit)
app.command(context_settings=plan.SETTINGS)(plan.plan)
app.command(cls=drops.Watching)(drops.drops)
app.command()(events.events)
app.command()(capture.capture)
app.add_typer(pki.app, name="pki")
app.add_typer(controller.app, name="controller")
app.command()(status.status)
app.command()(trace.trace)
app.command()(plug.plug)
app.command()(plug.unplug)


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address of the controller, or of several, with commas [http://127.0.0.1:8080].",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="TOKEN", help="Bearer token. Others may see it in the list of processes."),
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="FILE", help="Authority of the controller's certificate (https).")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option("--certificate", metavar="FILE", help="Your own, if the controller demands one.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="Its key.")] = None,
) -> None:
    context.obj = Session({"url": url, "token": token, "ca": ca, "certificate": certificate, "key": key})


def asked(words: Sequence[str]) -> str | None:
    """The command or group that a command line names, None where that is not plain."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        if word in _WITH_VALUE:
            next(rest, None)
        elif word.partition("=")[0] not in _WITH_VALUE:
            return None
    return None


def narrow(program: typer.Typer, words: Sequence[str]) -> None:
    """Leave out all groups but the one that is asked for: to prepare a hundred commands takes longer than one of them
    does. Help, completion, mistakes and what calls others get all of them.
    """
    name = asked(words)
    known = {group.name for group in program.registered_groups}
    known |= {each.name or each.callback.__name__ for each in program.registered_commands if each.callback}
    if name in known - _NEEDS_ALL:
        program.registered_groups = [group for group in program.registered_groups if group.name == name]


def main() -> None:
    """Entry point of the `trunkline` program; does not return."""
    if _COMPLETION not in os.environ:
        narrow(app, sys.argv[1:])
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
