"""A Debian machine with Debian's own kernel, emulated by QEMU: it needs neither KVM nor a module of this machine.

It boots, does what a story says, line by line, and is off. All that it says goes by its serial port.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etc.lab.processes import CommandFailed, run, start
from tests.packaging.machine import root_directory
from tests.unpacked import unpacked_kernel

DISK = "3G"
MEMORY = "2G"
DEADLINE = 1500.0
"""Seconds: emulated, a second of the processor takes ten or more."""

_MARK = "=====story"
_UNIT = """[Unit]
After=multi-user.target dbus.service
[Service]
Type=oneshot
WorkingDirectory={home}
Environment=HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
ExecStart=/bin/bash /root/story
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a line of the story has printed, and its exit status."""

    output: str
    status: int


def boot(place: Path, home: str, files: Mapping[str, Sequence[Path]], story: Iterable[str]) -> dict[str, Told]:
    """Return what each line has said, once the machine is off. `files`: directory there, and what is to be in it.

    `home` is where the lines are run. Raises CommandFailed when it ends before the story does.
    """
    lines = list(story)
    disk = _disk(place, home, files, lines)
    kernel = next(unpacked_kernel().glob("boot/vmlinuz-*"))
    said = place / "serial"
    kernel_line = "root=/dev/nvme0n1 rw console=ttyS0 panic=-1 quiet systemd.show_status=no"
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY, "-display", "none"),
        *("-no-reboot", "-kernel", kernel, "-append", kernel_line, "-net", "none", "-serial", f"file:{said}"),
        # of the disks that QEMU has, only NVMe needs no module
        *("-drive", f"file={disk},if=none,id=disk,format=raw,cache=unsafe", "-device", "nvme,serial=1,drive=disk"),
    ]
    machine = start("QEMU", [str(word) for word in command], place / "qemu.log")
    try:
        machine.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"not off after {DEADLINE:g} s:\n{_end(said)}") from None
    finally:
        machine.kill()
    told = _told(said.read_text(errors="replace"), lines)
    if len(told) < len(set(lines)):
        raise CommandFailed(f"the machine ended early:\n{_end(said)}\n{machine.tail()}")
    return told


def _disk(place: Path, home: str, files: Mapping[str, Sequence[Path]], lines: Sequence[str]) -> Path:
    """A file system with a furnished Debian, the kernel's modules, the files and the story."""
    upper, disk = place / "upper", place / "disk"
    modules = next(unpacked_kernel().glob("usr/lib/modules/*"))
    _copy([modules], upper / "usr/lib/modules")
    run(["depmod", "--basedir", str(upper / "usr"), modules.name])
    for directory, each in files.items():
        _copy(each, upper / directory.lstrip("/"))
    (upper / "root").mkdir(exist_ok=True)
    (upper / home.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (upper / "root/story").write_text(_script(lines))
    units = upper / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "story.service").write_text(_UNIT.format(home=home))
    (units / "multi-user.target.wants/story.service").symlink_to("../story.service")
    (place / "work").mkdir()
    (place / "merged").mkdir()
    layers = f"lowerdir={root_directory(furnished=True)},upperdir={upper},workdir={place / 'work'}"
    merge = f"mount -t overlay -o {layers} overlay {place / 'merged'}"
    make = f"mke2fs -q -t ext4 -d {place / 'merged'} {disk} {DISK}"
    run(["unshare", "--mount", "bash", "-ec", f"{merge}\n{make}"], deadline=300)
    return disk


def _copy(files: Sequence[Path], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    run(["cp", "--recursive", *map(str, files), str(directory)], deadline=120)


def _script(lines: Sequence[str]) -> str:
    told = (
        f"bash -c {shlex.quote(line)} >/root/said 2>&1; status=$?\n"
        f"echo; echo {_MARK} {number}; cat /root/said; echo; echo {_MARK} {number} $status"
        for number, line in enumerate(lines)
    )
    return "\n".join(("stty -F /dev/ttyS0 -opost", *told, "systemctl poweroff --force --force", ""))


def _told(text: str, lines: Sequence[str]) -> dict[str, Told]:
    found = re.findall(rf"^{_MARK} (\d+)\n(.*?)^{_MARK} \1 (\d+)$", text.replace("\r", ""), re.M | re.S)
    return {lines[int(number)]: Told(output.strip(), int(status)) for number, output, status in found}


def _end(serial: Path) -> str:
    return serial.read_text(errors="replace")[-3000:] if serial.exists() else ""
