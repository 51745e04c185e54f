"""Whether an answer is what the OpenAPI document says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

ANYWHERE = (405, 500)  # which the document tells of once


class Conformity:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._paths = [(_pattern(path), path) for path in document["paths"]]
        self._validator = cache(self._make_validator)

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Raises AssertionError for an answer that the document does not allow."""
        asked = f"{method} {path}: {status}"
        template = next((known for pattern, known in self._paths if pattern.fullmatch(path)), None)
        operation = self.document["paths"].get(template, {}).get("get" if method == "HEAD" else method.lower())
        if _of_a_page(path) and status < 400:
            return
        if operation is None or (status in ANYWHERE and str(status) not in operation["responses"]):
            assert status >= 400, f"{asked}: the document has no such operation"
            self._require(self._validator("Error", None, None), json.loads(body) if body else None, asked, body)
            return
        assert str(status) in operation["responses"], f"{asked}: not one of {', '.join(operation['responses'])}"
        if status == 304:
            assert not body, asked
            return
        kind = content_type.partition(";")[0]
        content = operation["responses"][str(status)]["content"]
        assert kind in content, f"{asked}: {kind} is none of {', '.join(content)}"
        if kind == "application/json":
            of = (template, "get" if method == "HEAD" else method.lower())
            value = json.loads(body) if body else None
            self._require(self._validator(*of, str(status)), value, asked, body)

    def _require(self, validator: Any, value: object, asked: str, body: bytes) -> None:
        if not body:  # of HEAD
            return
        errors = [
            f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(value)
        ]
        assert not errors, f"{asked}: {'; '.join(errors)[:2000]}"

    def _make_validator(self, place: str, method: str | None, status: str | None) -> Any:
        if method is None:
            schema: Any = {"$ref": f"#/components/schemas/{place}"}
        else:
            response = self.document["paths"][place][method]["responses"][status]
            schema = response["content"]["application/json"]["schema"]
        whole = {"components": self.document["components"], "allOf": [schema]}
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _of_a_page(path: str) -> bool:
    """A file for browsers, of which the document does not tell."""
    return path in ("/", "/ui") or path.startswith("/ui/")


def _pattern(template: str) -> re.Pattern[str]:
    """Of fixed parts before variable ones: the document names the fixed path first, as routes do."""
    parts = [re.escape(part) if not part.startswith("{") else "[^/]+" for part in template.split("/")]
    if template.endswith("{path}"):
        parts[-1] = ".*"
    return re.compile("/".join(parts), re.DOTALL)
