"""The conditions of `when:`: a safe subset of Python expressions, compiled once, evaluated for a whole batch.

Names are fields; `field("service.name")` reaches the others (the flat name first, then nested maps). `tag` is the
event's tag and `time` its nanoseconds since 1970. A missing field is `None`, every comparison with `None` is false
(`x is None` and `x is not None` ask for it), and so is one of types that do not go together (`'a' < 3`).

Allowed: `and or not`, `== != < <= > >= in`, `not in`, strings, numbers, lists of them, `+ - * / // %`, and the
functions `len lower upper startswith endswith contains matches` (RE2). All else is a mistake with its column.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import re2

from mcp_ingest.errors import ConfigError

Record = dict[str, Any]


class Expression:
    """A compiled condition; `text` is what was written."""

    __slots__ = ("_all", "text")

    def __init__(self, text: str, evaluate: Callable[..., list[bool]]) -> None:
        self.text = text
        self._all = evaluate

    def mask(self, records: Sequence[Record], tags: Sequence[str], times: Sequence[int]) -> list[bool]:
        """For each event whether the condition holds; raises nothing that a record can cause."""
        return self._all(records, tags, times)

    def __call__(self, record: Record, tag: str = "", time: int = 0) -> bool:
        """Whether the condition holds for one event."""
        return self._all((record,), (tag,), (time,))[0]


def compile_expression(text: str) -> Expression:
    """The condition that `text` says; `ConfigError` names what is wrong or not allowed, and its column."""
    source = text.replace("\n", " ").replace("\r", " ")
    offset = len(source) - len(source.lstrip())
    try:
        tree = ast.parse(source.strip(), mode="eval")
        translator = _Translator(source, offset)
        body = translator.translate(tree.body)
        code = f"lambda records, tags, times: [True if {body} else False for {translator.columns()}]"
        return Expression(text, eval(code, translator.namespace))  # noqa: S307  of our own words and constants only
    except SyntaxError as error:
        raise ConfigError([f"column {(error.offset or 1) + offset}: {error.msg}"]) from None
    except (RecursionError, MemoryError, ValueError):
        raise ConfigError(["column 1: the expression is nested too deep, or is no text"]) from None


# --- what the compiled code calls ---------------------------------------------------------------------------


def _field(record: Record, path: str) -> Any:
    value = record.get(path)
    if value is not None or "." not in path:
        return value
    found: Any = record
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def safe(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        try:
            return bool(compare(left, right))
        except TypeError:
            return False

    return safe


def _arithmetic(compute: Callable[[Any, Any], Any], texts: bool = False) -> Callable[[Any, Any], Any]:
    def safe(left: Any, right: Any) -> Any:
        if texts and isinstance(left, str) and isinstance(right, str):
            return compute(left, right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            return None
        try:
            return compute(left, right)
        except (ArithmeticError, ValueError):
            return None

    return safe


def _len(value: Any) -> int | None:
    return len(value) if isinstance(value, str | list | dict) else None


def _lower(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _upper(value: Any) -> str | None:
    return value.upper() if isinstance(value, str) else None


def _startswith(value: Any, start: Any) -> bool:
    return isinstance(value, str) and isinstance(start, str) and value.startswith(start)


def _endswith(value: Any, end: Any) -> bool:
    return isinstance(value, str) and isinstance(end, str) and value.endswith(end)


def _matches(value: Any, pattern: Any) -> bool:
    return isinstance(value, str) and pattern.search(value.encode("utf-8", "replace")) is not None


_CONTAINS = _comparison(lambda whole, part: part in whole)
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: _comparison(operator.eq),
    ast.NotEq: _comparison(operator.ne),
    ast.Lt: _comparison(operator.lt),
    ast.LtE: _comparison(operator.le),
    ast.Gt: _comparison(operator.gt),
    ast.GtE: _comparison(operator.ge),
    ast.In: _comparison(lambda part, whole: part in whole),
    ast.NotIn: _comparison(lambda part, whole: part not in whole),
}
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _arithmetic(operator.add, texts=True),
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.FloorDiv: _arithmetic(operator.floordiv),
    ast.Mod: _arithmetic(operator.mod),
}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "len": (_len, 1),
    "lower": (_lower, 1),
    "upper": (_upper, 1),
    "startswith": (_startswith, 2),
    "endswith": (_endswith, 2),
    "contains": (_CONTAINS, 2),
    "matches": (_matches, 2),
}
_NOT_NAMES = {"true": "True", "false": "False", "null": "None", "none": "None"}


# --- from what was written to code of ours ------------------------------------------------------------------


class _Translator:
    """Makes Python code of a checked tree: nothing the user wrote gets into it but constants, by name."""

    def __init__(self, source: str, offset: int) -> None:
        self._source = source
        self._offset = offset
        self._columns = {"record"}
        self.namespace: dict[str, Any] = {"__builtins__": {}, "zip": zip, "_field": _field}

    def columns(self) -> str:
        """The loop over those columns that the expression uses."""
        if self._columns == {"record"}:
            return "record in records"
        return "record, tag, time in zip(records, tags, times)"

    def translate(self, node: ast.expr) -> str:
        """The code of a node; each kind that is allowed has a method."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self._refuse(node, f"{_WORDS.get(type(node), type(node).__name__)} is not allowed here")
        return str(method(node))

    def _refuse(self, node: ast.AST, what: str) -> NoReturn:
        start = getattr(node, "col_offset", 0)  # in bytes of UTF-8
        column = len(self._source[self._offset :].encode()[:start].decode(errors="replace")) + self._offset + 1
        raise ConfigError([f"column {column}: {what}"])

    def _keep(self, value: Any) -> str:
        name = f"_{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def _constant(self, node: ast.Constant) -> str:
        if node.value is None or isinstance(node.value, bool):
            return repr(node.value)
        if not isinstance(node.value, str | int | float):
            self._refuse(node, f"{node.value!r} is not allowed here")
        return self._keep(node.value)

    def _list(self, node: ast.List | ast.Tuple) -> str:
        if all(isinstance(item, ast.Constant) for item in node.elts):
            return self._keep(tuple(item.value for item in node.elts if isinstance(item, ast.Constant)))
        return "(" + "".join(f"{self.translate(item)}, " for item in node.elts) + ")"

    _tuple = _list

    def _name(self, node: ast.Name) -> str:
        if node.id in _NOT_NAMES:
            self._refuse(node, f"`{node.id}` is written `{_NOT_NAMES[node.id]}`")
        if node.id in ("tag", "time"):
            self._columns.add(node.id)
            return node.id if node.id == "tag" else "(time or None)"
        return f"record.get({self._keep(node.id)})"

    def _attribute(self, node: ast.Attribute) -> str:
        path = ast.unparse(node)
        self._refuse(node, f'write field("{path}") for the field `{path}`')

    def _boolop(self, node: ast.BoolOp) -> str:
        word = " and " if isinstance(node.op, ast.And) else " or "
        return "(" + word.join(self.translate(value) for value in node.values) + ")"

    def _unaryop(self, node: ast.UnaryOp) -> str:
        if isinstance(node.op, ast.Not):
            return f"(not {self.translate(node.operand)})"
        if not isinstance(node.op, ast.USub):
            self._refuse(node, "this operator is not allowed here")
        if isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int | float):
            return self._keep(-node.operand.value)
        return f"{self._keep(_OPERATIONS[ast.Sub])}(0, {self.translate(node.operand)})"

    def _binop(self, node: ast.BinOp) -> str:
        operation = _OPERATIONS.get(type(node.op))
        if operation is None:
            self._refuse(node, "this operator is not allowed: there are + - * / // %")
        return f"{self._keep(operation)}({self.translate(node.left)}, {self.translate(node.right)})"

    def _compare(self, node: ast.Compare) -> str:
        operands = [node.left, *node.comparators]
        parts = [
            self._comparison(node, left, sign, right)
            for left, sign, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        return "(" + " and ".join(parts) + ")"

    def _comparison(self, node: ast.Compare, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> str:
        none = isinstance(right, ast.Constant) and right.value is None
        if isinstance(sign, ast.Is | ast.IsNot):
            if not none:
                self._refuse(node, "`is` asks for None only: write == or !=")
            return f"{self.translate(left)} {'is' if isinstance(sign, ast.Is) else 'is not'} None"
        if none:
            self._refuse(node, "a comparison with None is always false: write `is None` or `is not None`")
        first, second = self.translate(left), self.translate(right)
        return _inline(sign, first, right, second, self.namespace) or (
            f"{self._keep(_COMPARISONS[type(sign)])}({first}, {second})"
        )

    def _call(self, node: ast.Call) -> str:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "field":
            return f"_field(record, {self._keep(self._text(node, 0, 1))})"
        if name not in _FUNCTIONS:
            self._refuse(node, f"there is no such function: there are field, {', '.join(_FUNCTIONS)}")
        function, count = _FUNCTIONS[name]
        if len(node.args) != count or node.keywords:
            self._refuse(node, f"{name} takes {count} argument{'s' * (count > 1)}")
        arguments = [self.translate(argument) for argument in node.args[:1]]
        arguments += [self._pattern(node)] if name == "matches" else map(self.translate, node.args[1:])
        return f"{self._keep(function)}({', '.join(arguments)})"

    def _text(self, node: ast.Call, index: int, count: int) -> str:
        argument = node.args[index] if len(node.args) == count and not node.keywords else None
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            self._refuse(node, f"{ast.unparse(node.func)} takes a text in quotes")
        return argument.value

    def _pattern(self, node: ast.Call) -> str:
        options = re2.Options()
        options.log_errors = False
        try:
            return self._keep(re2.compile(self._text(node, 1, 2), options))
        except re2.error as error:
            self._refuse(node.args[1], f"the pattern is not RE2: {error}")


def _inline(sign: ast.cmpop, left: str, node: ast.expr, right: str, namespace: dict[str, Any]) -> str | None:
    """The common comparisons with constants as plain Python, which needs no call; None is never equal to them."""
    value = namespace.get(right)
    constant = isinstance(node, ast.Constant)
    listed = isinstance(value, tuple) and None not in value
    if isinstance(sign, ast.Eq) and constant and value is not None:
        return f"{left} == {right}"
    if isinstance(sign, ast.NotEq) and constant and value is not None:
        return f"{left} not in (None, {right})"
    if isinstance(sign, ast.In) and listed:
        return f"{left} in {right}"
    if isinstance(sign, ast.NotIn) and listed:
        return f"{left} not in (None, *{right})"
    return None


_WORDS: dict[type[ast.AST], str] = {
    ast.Lambda: "a function of your own",
    ast.Subscript: "an index",
    ast.Dict: "a map",
    ast.Set: "a set",
    ast.IfExp: "if … else",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "a text with fields in it",
    ast.Await: "await",
    ast.ListComp: "a loop",
    ast.GeneratorExp: "a loop",
    ast.SetComp: "a loop",
    ast.DictComp: "a loop",
    ast.Starred: "a star",
}
