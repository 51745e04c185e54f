"""/v1/docs: the OpenAPI document as one page without scripts, and without anything from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

Json = Mapping[str, Any]

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f4f2;padding:.7em;overflow-x:auto}
h2{margin-top:2.2em;border-bottom:1px solid #ccc}details{border-top:1px solid #eee;padding:.35em 0}
summary{cursor:pointer}summary b{display:inline-block;width:4.5em}table{border-collapse:collapse;margin:.5em 0}
td,th{text-align:left;vertical-align:top;padding:.15em .9em .15em 0}nav a{margin-right:1em}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#222}a{color:#8bf}}
"""


def page(document: Json) -> str:
    """The page of an OpenAPI document."""
    info, schemas = document["info"], document["components"]["schemas"]
    title = escape(info["title"])
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"<h1>{title} REST API</h1>{_paragraphs(info['description'])}",
        '<p><a href="openapi.json">openapi.json</a> <a href="/ui/api.html">with swagger-ui</a></p><nav>',
        *(f'<a href="#{escape(tag["name"])}">{escape(tag["name"])}</a>' for tag in document["tags"]),
        '<a href="#schemas">schemas</a></nav>',
    ]
    for tag in document["tags"]:
        parts.append(f'<h2 id="{escape(tag["name"])}">{escape(tag["name"])}</h2>')
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    parts += _operation(path, method, operation)
    parts.append('<h2 id="schemas">schemas</h2>')
    for name, schema in sorted(schemas.items()):
        parts.append(
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_schema(schema)}</details>'
        )
    return "\n".join(parts) + "\n"


def _operation(path: str, method: str, operation: Json) -> Iterator[str]:
    yield (
        f'<details id="{escape(operation["operationId"])}"><summary><b>{escape(method.upper())}</b> '
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>{_paragraphs(operation['description'])}"
    )
    if operation["parameters"]:
        yield "<table><tr><th>parameter<th>in<th>what<th>schema</tr>"
        for it in operation["parameters"]:
            needed = " (needed)" if it["required"] and it["in"] == "query" else ""
            yield (
                f"<tr><td><code>{escape(it['name'])}</code><td>{escape(it['in'])}{needed}"
                f"<td>{escape(it.get('description', ''))}<td><code>{_brief(it['schema'])}</code></tr>"
            )
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Body:</p>{_contents(operation['requestBody']['content'])}"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield f"<p>{escape(status)}:</p>{_contents(answer['content'])}"
    refused = ", ".join(status for status in operation["responses"] if not status.startswith("2"))
    yield f"<p>Refused with: {escape(refused)}</p></details>"


def _contents(content: Json) -> str:
    return "".join(f"<p><code>{escape(kind)}</code></p>{_schema(it['schema'])}" for kind, it in content.items())


def _schema(schema: Json) -> str:
    about = _paragraphs(schema.get("description", ""))
    shown = {name: value for name, value in schema.items() if name not in ("description", "title")}
    return f"{about}<pre>{_linked(json.dumps(shown, indent=2))}</pre>"


def _brief(schema: Json) -> str:
    shown = {name: value for name, value in schema.items() if name not in ("description", "title")}
    return _linked(json.dumps(shown))


def _linked(text: str) -> str:
    return re.sub(r"#/components/schemas/(\w+)", r'<a href="#\1">\1</a>', escape(text, quote=False))


def _paragraphs(text: str) -> str:
    words = (re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(part)) for part in text.split("\n\n") if part.strip())
    return "".join(f"<p>{part}</p>" for part in words)
