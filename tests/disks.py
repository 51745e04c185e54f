"""Small disks, to be filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etc.lab.processes import run


@contextmanager
def small_disk(place: Path, size: str = "24m", seen_by: int | None = None) -> Iterator[Path]:
    """A file system of so many bytes in a directory, which is made if it is not there; anybody may write to it.
    `seen_by`: a process that is to see it, where that has mounts of its own. Returns what we see it as.
    """
    place.mkdir(exist_ok=True)
    enter = [] if seen_by is None else ["nsenter", f"--mount=/proc/{seen_by}/ns/mnt"]
    run([*enter, "mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(place)])
    try:
        yield place if seen_by is None else Path(f"/proc/{seen_by}/root{place}")
    finally:
        run([*enter, "umount", "--lazy", str(place)])


def fill(file: Path) -> None:
    """To the last byte. There is room again when the file is gone."""
    with file.open("wb", buffering=0) as rest, suppress(OSError):
        for size in (1 << 16, 1):
            with suppress(OSError):
                while rest.write(bytes(size)):
                    pass
