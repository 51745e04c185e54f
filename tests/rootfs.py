"""The files of the smallest container: Debian's busybox."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.unpacked import unpacked


def make_rootfs(place: Path, *applets: str) -> Path:
    """`place`, with these commands in /bin. Raises FileExistsError."""
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        (place / name).mkdir(parents=True)
    (place / "sbin").symlink_to("bin")
    shutil.copy(unpacked("busybox-static") / "usr/bin/busybox", place / "bin")
    for name in applets:
        (place / "bin" / name).symlink_to("busybox")
    return place
