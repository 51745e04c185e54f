"""Sample configurations, made from the options.

`python -m etc.samples controller >etc/trunkline-controller.conf.sample`, and the same with `agent`.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from oslo_config import cfg

from agent import options as agent_options
from controller import options as controller_options

WIDTH = 118
Groups = Mapping[str, Sequence[cfg.Opt]]

HEADS: Mapping[str, tuple[str, Groups]] = {
    "controller": (
        "Configuration of trunkline-controller. Every option is shown with its default, or with examples.\n"
        'In values "$" must be written "$$". What *.conf of the directory beside this file say comes afterwards.',
        controller_options.GROUPS,
    ),
    "agent": (
        "Configuration of trunkline-agent. Every option is shown with its default, or with examples.\n"
        'In values "$" must be written "$$". What *.conf of the directory beside this file say comes afterwards.',
        agent_options.GROUPS,
    ),
}


def sample(part: str) -> str:
    """The whole file. `part` is one of `HEADS`."""
    head, groups = HEADS[part]
    return "\n".join([*_comment(head), *_sections(groups)]) + "\n"


def _sections(groups: Groups) -> Iterator[str]:
    for name, options in groups.items():
        yield from ("", f"[{name}]")
        for option in options:
            yield from _comment(option.help or "")
            yield from (f"#{option.dest} = {value}".rstrip() for value in _values(option))


def _values(option: cfg.Opt) -> Iterable[str]:
    default = option.default if isinstance(option.default, list) else [option.default]
    examples = option.sample_default if isinstance(option.sample_default, list) else [option.sample_default]
    values = [str(value) for value in (*default, *examples) if value is not None]
    return values if len(values) < 2 else [value for value in values if value]


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        wrapped = textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)
        yield from (f"# {each}" for each in wrapped)


if __name__ == "__main__":
    sys.stdout.write(sample(sys.argv[1]))
