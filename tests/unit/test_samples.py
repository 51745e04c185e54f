"""The sample configurations are those that the options make, and valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import load
from etc.samples import HEADS, sample

ETC = Path(__file__).resolve().parents[2] / "etc"


@pytest.mark.parametrize("part", HEADS)
def test_samples_are_up_to_date(part: str) -> None:
    text = (ETC / f"trunkline-{part}.conf.sample").read_text()
    assert text == sample(part), f"stale: python -m etc.samples {part} >etc/trunkline-{part}.conf.sample"


@pytest.mark.parametrize("part", HEADS)
def test_each_option_is_explained_and_shown(part: str) -> None:
    text = sample(part)
    _, groups = HEADS[part]
    for name, options in groups.items():
        section = text.split(f"\n[{name}]\n")[1].split("\n\n")[0]
        for option in options:
            assert option.help and re.search(rf"(?m)^# .+\n(?:#{option.dest} =.*\n?)+", section), option.dest
    assert max(map(len, text.splitlines())) <= 120


def test_the_agents_sample_is_a_configuration(tmp_path: Path) -> None:
    """With the token alone; tests/unit/api/test_config.py loads the controller's."""
    file = tmp_path / "agent.conf"
    file.write_text(sample("agent").replace("#api_token", "api_token"))
    assert load(["--config-file", str(file)]).api_token == "CHANGE-ME"
