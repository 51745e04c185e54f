"""Does what a page says, on machines that stand for those that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tests.docs_text import files
from tests.packaging.machine import Machine

Hosts = Mapping[str, Machine]


def walk(text: str, hosts: Hosts, meant: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Paragraph by paragraph. "On WHAT" says where, and `meant` which hosts that are, by name. The last answer to each
    command.
    """
    where: Sequence[str] = ()
    answers: dict[str, str] = {}
    before = ""
    for paragraph in re.split(r"\n\n", text):
        if not paragraph.startswith("    "):
            before = paragraph
            for found in re.finditer(r"\bOn (" + "|".join(map(re.escape, meant)) + r")\b", paragraph):
                where = meant[found[1]]
            continue
        lines = [line[4:] for line in paragraph.splitlines()]
        content = "\n".join(lines) + "\n"
        file = next((path for path, each in files(f"{before}\n\n{paragraph}").items() if each == content), None)
        assert where or lines[0].startswith("scp "), f"nobody is told to do this: {before}"
        for name in where:
            if file is not None:
                _write(hosts[name], file, content)
                continue
            for line in lines:
                answers[line] = _do(line, name, hosts)
    return answers


def _write(machine: Machine, file: str, content: str) -> None:
    content = re.sub(r"(?m)^node = .*", f"node = {machine.name}", content)
    if file.endswith("cli.yaml"):  # a controller's has a token
        content = machine.run(f"cat {file} 2>/dev/null || true") + "\n" + content
    machine.write(file, content)


def _do(line: str, name: str, hosts: Hosts) -> str:
    copied = re.fullmatch(r"scp (?:-r )?(\S+) (\w+):(\S*)", line)
    if copied is None:
        return hosts[name].run(line)
    path, other, target = copied.groups()
    hosts[name].send(path, hosts[other], target)
    return ""
