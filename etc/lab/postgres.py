"""One private PostgreSQL: data, socket and log of its own, and nothing left of it afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from etc.lab import netns
from etc.lab.processes import CommandFailed, Process, interruptible, run, start, wait_until

BINARIES = Path("/usr/lib/postgresql")
"""Debian keeps each major version's programs in a directory of its own below this one."""

SYSTEM_USER = "postgres"
"""PostgreSQL refuses to run as root."""

ROLE = "trunkline"
"""Who owns the databases. He may no more than that, as in a real installation."""

PORT = 5432
START_DEADLINE = 60.0
STOP_DEADLINE = 30.0

# small, and quick where nothing needs to outlive the machine
_SETTINGS: Mapping[str, object] = {
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    "max_connections": 100,
    "jit": "off",
}


def programs() -> Path:
    """The directory of the newest installed version's programs. Raises FileNotFoundError."""
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise FileNotFoundError(f"no PostgreSQL in {BINARIES}: install the Debian package postgresql")
    return found[-1].parent


class Postgres:
    """`directory` holds all its files and is made by `start`; whoever runs it must get there, so must its user.

    `listen`: addresses for TCP, in `namespace` if one is given; without any there is only the Unix socket, which is
    reached from every namespace. `durable`: what is committed outlives the machine, and not only the process.
    `settings` are those of postgresql.conf. As a `with` it runs, and leaves nothing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        namespace: str | None = None,
        listen: Sequence[str] = (),
        port: int = PORT,
        durable: bool = False,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = port
        self.process: Process | None = None
        self._namespace = namespace
        self._listen = tuple(listen)
        self._programs = programs()
        off = {} if durable else {"fsync": "off", "full_page_writes": "off"}
        self._settings = {**_SETTINGS, **off, **(settings or {})}

    def __enter__(self) -> Postgres:
        try:
            self.start()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    # -- its life

    def start(self) -> None:
        """Make the cluster if there is none, start the server and wait until it answers."""
        if not self.data.exists():
            self._make()
        settings = {"unix_socket_directories": self.directory, "port": self.port, **self._settings}
        settings["listen_addresses"] = ",".join(self._listen)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = _as_its_user([str(self._programs / "postgres"), "-D", str(self.data), *options])
        if self._namespace is not None:
            command = netns.command(self._namespace, command)
        self.process = start("postgres", interruptible(command), self.directory / "postgres.log", cwd=self.directory)
        self.process.wait_for(self.answers, START_DEADLINE, "PostgreSQL does not answer")

    def stop(self) -> None:
        """Ends all connections and stops (a "fast" shutdown)."""
        if self.process and self.process.alive():
            self.resume()
            self.process.signal(signal.SIGINT)
            self.process.wait(STOP_DEADLINE)

    def kill(self) -> None:
        """SIGKILL to all its processes, as when the machine loses power."""
        assert self.process
        everyone = self._stopped()
        self._signal(signal.SIGKILL, everyone)
        self.process.wait(STOP_DEADLINE)
        wait_until(lambda: not any(map(_runs, everyone)), STOP_DEADLINE, "PostgreSQL's processes do not end")

    def restart(self, *, kill: bool = False) -> None:
        self.kill() if kill else self.stop()
        self.start()

    def pause(self) -> None:
        """It hangs: connections stay, and nothing answers."""
        self._stopped()

    def resume(self) -> None:
        """It goes on where it was paused."""
        assert self.process
        self._signal(signal.SIGCONT, [*self._children(), self.process.pid])

    def destroy(self) -> None:
        """Neither process nor file is left."""
        if self.process and self.process.alive():
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def answers(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1"
        except (CommandFailed, subprocess.TimeoutExpired):
            return False

    # -- what is in it

    def url(self, database: str, host: str | None = None) -> str:
        """For SQLAlchemy; by the Unix socket unless an address is given."""
        if host is None:
            return f"postgresql+psycopg2://{ROLE}@/{database}?host={self.directory}&port={self.port}"
        return f"postgresql+psycopg2://{ROLE}@{host}:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Its URL. A copy of `template`, to which nobody may be connected, if one is given."""
        copied = f" TEMPLATE {template}" if template is not None else ""
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE}{copied}")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Whoever is connected to it is cut off."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; the columns of its rows are separated by `|`. Raises CommandFailed."""
        psql = [str(self._programs / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--quiet"]
        psql += ["--set=ON_ERROR_STOP=1", f"--host={self.directory}", f"--port={self.port}"]
        return run([*psql, f"--username={SYSTEM_USER}", f"--dbname={database}", f"--command={statement}"]).strip()

    # -- how

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.directory, SYSTEM_USER, SYSTEM_USER)
        initdb = [str(self._programs / "initdb"), "--pgdata", str(self.data), f"--username={SYSTEM_USER}"]
        run(_as_its_user([*initdb, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]), deadline=120)
        with (self.data / "pg_hba.conf").open("a") as access:
            access.write("host all all all trust\n")
        only = [str(self._programs / "postgres"), "--single", "-D", str(self.data), "postgres"]
        run(_as_its_user(only), text=f"CREATE ROLE {ROLE} LOGIN\n")

    def _stopped(self) -> list[int]:
        """All processes, stopped: the one that starts the others first, so that none can be missed."""
        assert self.process
        self._signal(signal.SIGSTOP, [self.process.pid])
        children = self._children()
        self._signal(signal.SIGSTOP, children)
        return [self.process.pid, *children]

    def _children(self) -> list[int]:
        assert self.process
        return [int(pid) for pid in run(["pgrep", "--parent", str(self.process.pid)], check=False).split()]

    @staticmethod
    def _signal(number: signal.Signals, pids: Sequence[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _as_its_user(command: list[str]) -> list[str]:
    """The pid stays the same through it."""
    if os.geteuid() != 0:
        return command
    user = pwd.getpwnam(SYSTEM_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command]


def _runs(pid: int) -> bool:
    """A process, and no zombie, which only its parent can take away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
