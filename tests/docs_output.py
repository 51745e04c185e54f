"""Whether a command still prints what a page shows: names, words and their order; not times, ids and counters."""

from __future__ import annotations

import re
from collections.abc import Sequence

ELLIPSIS = "..."
"""A line of a page that is only this stands for any number of lines, within a line for anything."""

_VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b0x54([0-9a-f]{6})[0-9a-f]{8}\b"), r"COOKIE\1"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "NUMBER"),
    (re.compile(r"\b(n_packets|conj_id|zone|conjunction\()(=?)\d+"), r"\1\2N"),
    (re.compile(r"\b(sport|dport)=[3-6]\d{4}\b"), r"\1=EPHEMERAL"),
)
_FLOW = re.compile(r"\s*cookie=\S+, ")
_NO_FLOW = re.compile(r"(?:OFPST|NXST)\w* reply ")
_RULE = re.compile(r"[- ]{8,}")
_KINDS = (
    (re.compile(r"\d+"), "number"),
    (re.compile("TIME"), "time"),
    (re.compile(r"https?://.+"), "url"),
    (re.compile("yes"), "yes"),
)


def mismatch(shown: Sequence[str], printed: Sequence[str], *, more: bool = False) -> str | None:
    """What of it is not as shown, in words; None when all is. `more`: other lines may be printed as well.

    Of a flow a page may show only some fields, and the order of flows is the switch's.
    """
    shown, printed = _plain(shown), [line for line in _plain(printed) if not _NO_FLOW.match(line)]
    if len(shown) > 1 and _RULE.fullmatch(shown[1]):
        return _table_mismatch(shown, printed)
    left = list(printed)
    reached = 0
    for line in shown:
        if line.strip() == ELLIPSIS:
            more = True
            continue
        is_flow = bool(_FLOW.match(line))
        found = next((each for each in left[0 if is_flow else reached :] if _is_like(line, each)), None)
        if found is None:
            return f"nothing like {line!r} is printed"
        index = left.index(found, 0 if is_flow else reached)
        del left[index]
        reached = index
    if left and not more:
        return f"the page does not have {left[0]!r}"
    return None


def _plain(lines: Sequence[str]) -> list[str]:
    found = []
    for line in lines:
        for pattern, replacement in _VARIES:
            line = pattern.sub(replacement, line)
        if line.strip():
            found.append(line.rstrip())
    return found


def _is_like(shown: str, printed: str) -> bool:
    if _FLOW.match(shown):
        return bool(_FLOW.match(printed)) and _fields(shown) <= _fields(printed)
    words = [".*".join(map(re.escape, word.split(ELLIPSIS))) for word in shown.split()]
    return bool(re.fullmatch(r"\s+".join(words), printed.strip()))


def _fields(flow: str) -> set[str]:
    return set(re.split(r", ?|\s+", flow.strip()))


def _table_mismatch(shown: list[str], printed: list[str]) -> str | None:
    """The titles, and that each line has what one that is shown has, column by column."""
    if not printed or shown[0].split() != printed[0].split():
        return f"the titles {shown[0]!r} are not those of {printed[:1]}"
    forms = [_form(line) for line in shown[2:]]
    strange = [line for line in printed[2:] if _form(line) not in forms]
    if strange or not printed[2:]:
        return f"no line of the page is like {(strange or printed)[0]!r}"
    return None


def _form(line: str) -> list[str]:
    return [next((kind for pattern, kind in _KINDS if pattern.fullmatch(word)), "word") for word in line.split()]
