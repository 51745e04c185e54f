"""/ui/: the web page, and what else a browser needs of files. They hold no data, so they need no token.

Files are kept in memory once they have been asked for. A browser asks whether one has changed, and mostly is answered
that it has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controller.api.auth import Resource, Verb
from controller.api.declared import Media
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

PLACE: Final = Path(__file__).resolve().parents[1] / "web"
FIRST: Final = "index.html"

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served; of other files nobody is told."""

_ALLOWED: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Names come from tenants: no script but ours, and no text that becomes one. swagger-ui makes markup of text, which is
# our own document's.
POLICY: Final = f"{_ALLOWED}; require-trusted-types-for 'script'; trusted-types 'none'"
POLICIES: Final[Mapping[str, str]] = {"api.html": _ALLOWED}

_SAFE: Final = (
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Files:
    """Those below a directory, as they were when this was made."""

    def __init__(self, place: Path) -> None:
        found = (path for path in sorted(place.rglob("*")) if path.suffix in TYPES and path.is_file())
        self._paths = {path.relative_to(place).as_posix(): path for path in found}
        self._answers: dict[str, Answer] = {}

    def show(self, name: str) -> Answer:
        """Raises ApiError 404. A name is one of those that were found: nothing of it is a path."""
        answer = self._answers.get(name)
        if answer is None:
            path = self._paths.get(name)
            if path is None:
                raise ApiError(404, "path_unknown", "there is nothing at this path")
            answer = self._answers[name] = _read(path, name)
        return answer


def _read(path: Path, name: str) -> Answer:
    body = path.read_bytes()
    headers = (("Content-Security-Policy", POLICIES.get(name, POLICY)), *_SAFE)
    etag = hashlib.sha256(body).hexdigest()[:32]
    return Answer(200, body, TYPES[path.suffix], headers, etag, cache="no-cache")


def routes(place: Path) -> tuple[Route, ...]:
    """Those of the files of a directory, with the way to the first of them."""
    files = Files(place)

    def show_page(_services: Services, request: Request) -> Answer:
        return files.show(request.params["path"] or FIRST)

    def lead_to_page(_services: Services, _request: Request) -> Answer:
        return Answer(302, b"", "text/plain; charset=utf-8", (("Location", "/ui/"),))

    told = Media(tuple(TYPES.values()), "A file of the web page.")
    lead = {"GET": Endpoint(Verb.SHOW, lead_to_page, told, status=302)}
    return (
        Route("/", Resource.PAGE, lead, public=True),
        Route("/ui", Resource.PAGE, lead, public=True),
        Route("/ui/{path...}", Resource.PAGE, {"GET": Endpoint(Verb.SHOW, show_page, told)}, public=True),
    )
