# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text as Go's libraries write it: templates, tables and JSON, as far as docker-machine's users meet them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


class TemplateError(Exception):
    """A template that the stand-in, or Go, cannot make anything of."""


def to_json(value: Any, pretty: bool = True) -> str:
    options: dict[str, Any] = {"indent": 4} if pretty else {"separators": (",", ":")}
    text = json.dumps(value, ensure_ascii=False, **options)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def render(template: str, data: Mapping[str, Any], type_name: str = "") -> str:
    """Fill in ``{{.Field.Field}}``; of a map also ``{{json .Field}}`` and ``{{prettyjson .Field}}``; no loops.

    With *type_name* the data are of a Go type, whose fields are all there are.
    """
    return _ACTION.sub(lambda match: _evaluate(match[1], data, type_name), template)


def _evaluate(action: str, data: Mapping[str, Any], type_name: str) -> str:
    function, _, path = action.rpartition(" ")
    if function not in (("",) if type_name else ("", "json", "prettyjson")) or not path.startswith("."):
        prefix = "" if type_name else "template parsing error: "
        raise TemplateError(f'{prefix}template: :1: function "{action.split()[0]}" not defined')
    value: Any = data
    for name in path.strip(".").split(".") if path != "." else []:
        if type_name and value is data and name not in data:
            raise TemplateError(
                f'template: :1:2: executing "" at <{path}>: can\'t evaluate field {name} in type {type_name}'
            )
        value = value.get(name) if isinstance(value, Mapping) else None
    if function:
        return to_json(_sorted(value), pretty=function == "prettyjson")
    return "<no value>" if value is None else _text(value)


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, Mapping) else value


def _text(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_text, value))}]"
    return str(value)


def table(rows: Sequence[str], minimum: int = 5, padding: int = 3) -> str:
    """Align the cells of *rows*, which end with a tab each but for the last one, with blanks."""
    cells = [row.split("\t") for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [
        max([minimum, *(len(row[column]) + padding for row in cells if column < len(row) - 1)])
        for column in range(columns)
    ]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in cells
    )


def help_table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, with tabs of eight between them."""
    width = (max(len(left) for left, _right in rows) + 1 + 7) // 8 * 8
    return "".join(f"{left}{chr(9) * -((len(left) - width) // 8)}{right}\n" for left, right in rows)


def natural(name: str) -> list[Any]:
    """Sort key: numbers by their value."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name.lower()) if part]
