"""What of the web page is not ours: named exactly, fetched by hash, and all of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "controller" / "web"
WANTED = json.loads((ROOT / "etc" / "web" / "package.json").read_text())
LOCK = json.loads((ROOT / "etc" / "web" / "package-lock.json").read_text())
BOOTSTRAP = (ROOT / "etc" / "bootstrap").read_text()


def test_each_package_has_one_version_and_its_hash_and_no_address() -> None:
    packages = {place.removeprefix("node_modules/"): one for place, one in LOCK["packages"].items() if place}
    assert WANTED["dependencies"].keys() <= packages.keys()
    for name, one in packages.items():
        assert one["integrity"].startswith("sha512-"), name
        assert "resolved" not in one, name
        assert WANTED["dependencies"].get(name, one["version"]) == one["version"], name
    assert "://" not in json.dumps(LOCK)


def test_whatever_the_page_loads_is_fetched() -> None:
    found = re.search(r"^WEB_FILES=\((.*?)^\)", BOOTSTRAP, re.MULTILINE | re.DOTALL)
    assert found
    fetched = {f"vendor/{file.split('/')[0]}/{file.rpartition('/')[2]}" for file in found[1].split()}
    sources = [path.read_text() for path in PAGE.glob("*") if path.suffix in (".js", ".html")]
    loaded = {match for text in sources for match in re.findall(r"vendor/[\w./-]+", text)}
    assert loaded and loaded <= fetched
    # each with its licence
    assert {f"vendor/{file.split('/')[1]}/LICENSE" for file in loaded} <= fetched


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """In a checkout of its own, whose npm notes that it was called, and fails."""
    for name in ("etc/bootstrap", "etc/web/package.json", "etc/web/package-lock.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "controller" / "web").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text('#!/bin/sh\necho "$@" >>"$0.called"\n[ "$1" != ci ] || { echo nothing to be had; exit 1; }\n')
    npm.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    command = ["bash", "-ec", f". {tmp_path}/etc/bootstrap; bootstrap_web"]
    failed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert failed.returncode == 1 and "nothing to be had" in failed.stderr
    called = Path(f"{npm}.called")
    assert "ci --ignore-scripts" in called.read_text()
    assert not list(tmp_path.glob("tmp.*")) and not (tmp_path / "controller/web/vendor").exists()

    called.unlink()
    vendor = tmp_path / "controller" / "web" / "vendor"
    vendor.mkdir()
    (vendor / "stamp").write_text(_stamp(tmp_path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not called.exists()
    # other versions, or other files, are fetched
    (tmp_path / "etc/web/package-lock.json").write_text("{}")
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1
    assert called.exists()


def _stamp(checkout: Path) -> str:
    say = """. etc/bootstrap; cat etc/web/package-lock.json <(printf '%s\\n' "${WEB_FILES[@]}") | sha256sum"""
    return subprocess.run(["bash", "-ec", say], cwd=checkout, capture_output=True, text=True, check=True).stdout
