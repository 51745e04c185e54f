"""`trunkline plug` and `unplug`: join a network namespace or a tap device of this machine to a port."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli.options import PortArgument


def plug(context: typer.Context, port: PortArgument) -> None:
    """x"""


def unplug(context: typer.Context, port: PortArgument) -> None:
    """x"""
