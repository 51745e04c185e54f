"""/ui/: files for a browser, which need no token and hold no data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from controller.api import page
from controller.api.errors import ApiError
from tests.unit.api.world import Reply, World


def files() -> list[str]:
    """Ours; what is fetched beside them need not be there."""
    return sorted(path.name for path in page.PLACE.glob("*") if path.suffix in page.TYPES)


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_way_to_it(shared_world: World, path: str) -> None:
    reply = shared_world.call("GET", path, token=None)
    assert (reply.status, reply.headers["Location"], reply.data) == (302, "/ui/", b"")


@pytest.mark.parametrize("name", ["", *files()])
def test_a_file_with_what_keeps_it_harmless(shared_world: World, name: str) -> None:
    reply = shared_world.call("GET", f"/ui/{name}", token=None)
    body = (page.PLACE / (name or page.FIRST)).read_bytes()
    assert (reply.status, reply.data) == (200, body)
    assert reply.headers["Content-Type"] == page.TYPES[Path(name or page.FIRST).suffix]
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["X-Frame-Options"] == "DENY"
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';") and "unsafe" not in policy
    assert ("trusted-types 'none'" in policy) == (name != "api.html")
    head = shared_world.call("HEAD", f"/ui/{name}", token=None)
    assert head.status == 200 and not head.data and head.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("sent", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_what_a_browser_has_is_not_sent_again(shared_world: World, sent: str) -> None:
    etag = shared_world.call("GET", "/ui/main.js", token=None).headers["ETag"]
    assert etag.strip('"') == hashlib.sha256((page.PLACE / "main.js").read_bytes()).hexdigest()[:32]
    reply = asked(shared_world, sent.format(etag.strip('"')))
    assert (reply.status, reply.data, reply.headers["ETag"]) == (304, b"", etag)
    assert "Content-Length" not in reply.headers and "Content-Security-Policy" in reply.headers


@pytest.mark.parametrize("sent", ["", '"x"', "x", '"', ",", "W/", "\u00e9", '"x"' * 1000])
def test_what_it_does_not_have_is_sent(shared_world: World, sent: str) -> None:
    assert asked(shared_world, sent).status == 200


def asked(world: World, if_none_match: str) -> Reply:
    return world.call("GET", "/ui/main.js", token=None, HTTP_IF_NONE_MATCH=if_none_match)


@pytest.mark.parametrize(
    "name", ["nothing", "../auth.py", "..", ".", "./index.html", "vendor/", "vendor/stamp", "INDEX.HTML", "index.html/"]
)
def test_nothing_else_is_served(shared_world: World, name: str) -> None:
    assert shared_world.call("GET", f"/ui/{name}", token=None).refusal[:2] == (404, "path_unknown")


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/ui/index.html"])
def test_nothing_can_be_written(shared_world: World, path: str) -> None:
    reply = shared_world.call("POST", path, {}, token=None)
    assert (reply.refusal[1], reply.headers["Allow"]) == ("method_not_allowed", "GET, HEAD")


def test_only_what_was_found_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.js").write_text("a")
    (tmp_path / "secret.js").write_text("secret")
    shown = page.Files(tmp_path / "in")
    assert shown.show("a.js").body == b"a"
    (tmp_path / "in" / "a.js").write_text("b")
    assert shown.show("a.js").body == b"a"  # kept
    for name in ("../secret.js", str(tmp_path / "secret.js"), "A.js", "a.js/", "/a.js", ""):
        with pytest.raises(ApiError, match="nothing at this path"):
            shown.show(name)


def test_our_scripts_make_no_markup_of_text() -> None:
    """Names come from tenants. The policy forbids it, too; a script that tried would only fail in the browser."""
    for name in files():
        text = (page.PLACE / name).read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "dangerously", "eval(", "Function("):
            assert word not in text, f"{name}: {word}"
        if name.endswith(".html"):
            assert "style=" not in text and "onload=" not in text and "<script>" not in text
