"""Tables: aligned, whole, and harmless."""

from __future__ import annotations

import io
from typing import Any

import pytest

from controller.cli.render import Column, Format, cell, show_list, show_object


def test_columns_are_aligned_whatever_is_in_them() -> None:
    things: list[dict[str, Any]] = [
        {"name": "名前", "ips": ["10.0.0.1", "10.0.0.2"], "id": "x" * 200},
        {"name": "e\u0301", "ips": [], "id": "y"},
    ]
    out = io.StringIO()
    show_list(things, [Column("name", "name"), Column("ips", "ips"), Column("id", "id")], Format.TABLE, out)
    assert out.getvalue().splitlines() == [
        "name   ips        id",
        "----   --------   " + "-" * 200,
        "名前   10.0.0.1   " + "x" * 200,
        "       10.0.0.2",
        "e\u0301                 y",
    ]


def test_an_empty_table_has_its_titles() -> None:
    out = io.StringIO()
    show_list([], [Column("name", "name")], Format.TABLE, out)
    assert out.getvalue() == "name\n----\n"


def test_an_object_is_a_row_a_field() -> None:
    out = io.StringIO()
    subnet = {"cidr": "10.0.0.0/24", "dns": ["a", "b"], "gateway": None, "reserved": [{"first": "c", "last": "d"}]}
    show_object({"dhcp": True, "subnets": [subnet], "binding": {"node": "n1", "zone": 7}}, Format.TABLE, out)
    assert [line.split(maxsplit=1) for line in out.getvalue().splitlines()[2:]] == [
        ["dhcp", "yes"],
        ["subnets", "cidr=10.0.0.0/24"],
        ["dns=a;", "b"],
        ["reserved=c-d"],
        ["binding", "node=n1, zone=7"],
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (False, "no"), (0, "0"), ([1, 2], "1\n2"), ("a\tb\x7f", "a\\tb\\x7f"), ("é", "é")]
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text
