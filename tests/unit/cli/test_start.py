"""The command starts without the parts of the controller that are slow to load."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("ryu", "eventlet", "sqlalchemy", "rich", "pydantic", "yaml", "oslo_config", "cryptography", "agent")


def test_nothing_slow_is_loaded() -> None:
    program = f"import sys, controller.cli.main; print([name for name in {SLOW!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_completion_works() -> None:
    program = "from controller.cli.main import main; main()"
    environment = {"_TRUNKLINE_COMPLETE": "complete_bash", "COMP_WORDS": "trunkline network ", "COMP_CWORD": "2"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert set(answer.stdout.split()) == {"create", "list", "show", "set", "delete", "associate", "disassociate"}
