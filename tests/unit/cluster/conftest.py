"""Ryu can only be imported with two of its defects mended. Nothing here is monkey-patched: other tests use threads."""

from __future__ import annotations

from controller import compat

compat.quiet_deprecation()
compat.no_green_dns()
compat.already_handled()
compat.circular_import()
