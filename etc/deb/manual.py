"""The manual page trunkline(1), made from the command: `python -m etc.deb.manual [SECONDS]`, which are its date."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import typer

from controller.cli.main import HELP, app

FILES = (
    ("~/.config/trunkline/cli.yaml, /etc/trunkline/cli.yaml", "url, token, ca, certificate and key of the command"),
    ("/etc/trunkline/trunkline-controller.conf", "of trunkline-controller, with *.conf in the directory beside it"),
    ("/etc/trunkline/trunkline-agent.conf", "of trunkline-agent, with *.conf in the directory beside it"),
    ("/usr/share/doc/trunkline-common/docs", "how it is installed, operated, and works"),
)


def main(arguments: list[str]) -> int:
    date = time.strftime("%Y-%m-%d", time.gmtime(float(arguments[0]) if arguments else None))
    print("\n".join(page(typer.main.get_command(app), date)))
    return 0


def page(root: Any, date: str) -> Iterator[str]:
    """In the macros of man(7)."""
    yield f'.TH TRUNKLINE 1 "{date}" Trunkline'
    yield ".SH NAME\ntrunkline \\- run the networks of a Trunkline cloud"
    yield ".SH SYNOPSIS\n.B trunkline\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    for paragraph in HELP.split("\b"):
        yield f".PP\n.nf\n{_text(paragraph.strip())}\n.fi"
    yield ".SH OPTIONS"
    yield from _options(root)
    yield ".SH COMMANDS"
    yield from _commands(root, "")
    yield ".SH FILES"
    for name, what in FILES:
        yield f".TP\n{_text(name)}\n{_text(what)}"


def _commands(group: Any, before: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if vars(command).get("commands"):
            yield from _commands(command, f"{before}{name} ")
            continue
        words = [f"\\fB{_text(before + name)}\\fR"]
        words += [_argument(each, _context(command)) for each in _parameters(command, "argument")]
        yield f".SS {' '.join(words)}\n{_text(' '.join((command.help or '').split()))}"
        yield from _options(command)


def _argument(argument: Any, context: Any) -> str:
    """In brackets if it may be left out, with dots if there may be more: `PORT`, `[PORT]`, `PORT...`."""
    usage = "".join(argument.get_usage_pieces(context))
    return f"\\fI{_text(usage.translate(_REQUIRED))}\\fR"


_REQUIRED = str.maketrans("", "", "{}")


def _options(command: Any) -> Iterator[str]:
    for option in _parameters(command, "option"):
        if record := option.get_help_record(_context(command)):
            yield f".TP\n\\fB{_text(record[0])}\\fR\n{_text(record[1])}"


def _parameters(command: Any, kind: str) -> list[Any]:
    return [each for each in command.params if each.param_type_name == kind]


def _context(command: Any) -> Any:
    return command.context_class(command, info_name=command.name)


def _text(text: str) -> str:
    """What is no markup."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
