"""`${NAME}`, `${NAME:-default}` and `${file:/run/secrets/x}` in a string; `$${` stands for `${`.

The default holds where the variable is missing or empty, or the file is. A file's last line end goes. What came from a
file knows how to be read again (`FromFile`): a secret may be changed while the daemon runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mcp_ingest.component import FromFile

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Variables:
    """Where values come from: the environment that was handed in, and files."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def put_into(self, text: str) -> tuple[str, list[str]]:
        """The text with its variables replaced, and a sentence for each that could not be."""
        problems: list[str] = []
        files: list[str] = []

        def replaced(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[1] is None:
                problems.append("`${` without its `}`; write `$${` for the two characters themselves")
                return ""
            if match[1].startswith("file:"):
                files.append(match[1][5:].partition(":-")[0])
            return self._value(match[1], problems)

        value = _PLACEHOLDER.sub(replaced, text)
        return FromFile(value, files, lambda: self._again(text)) if files else value, problems

    def _again(self, text: str) -> str | None:
        """The same later: None if a file cannot be read, or is empty, as one that is just being written."""
        value, problems = self.put_into(text)
        return None if problems or not value else str(value)

    def _value(self, expression: str, problems: list[str]) -> str:
        name, separator, default = expression.partition(":-")
        value, problem = self._file(name[5:]) if name.startswith("file:") else self._variable(name)
        if separator and not value:
            return default
        if problem:
            problems.append(problem)
        return value

    def _variable(self, name: str) -> tuple[str, str]:
        if not _NAME.fullmatch(name):
            return "", f"`${{{name}}}` is neither `${{NAME}}`, `${{NAME:-default}}` nor `${{file:/path}}`"
        if name not in self.environment:
            return "", f"the environment has no {name}; give it, or write ${{{name}:-default}}"
        return self.environment[name], ""

    @staticmethod
    def _file(path: str) -> tuple[str, str]:
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), ""
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            return "", f"cannot read {path}: {why}"
