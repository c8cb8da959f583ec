"""Which lines a change is at: where `parity locate` may be expected to point."""

import ast
import difflib


def changed_lines(before: str, after: str) -> list[int]:
    """The lines of `after`, from 1, that `before` lacks; of lines that were taken away, those around.

    Around: the nearest ones with text, and what is between.
    """
    lines: list[int] = []
    texts = after.splitlines()
    written = [number for number, text in enumerate(texts, 1) if text.strip()]
    matcher = difflib.SequenceMatcher(None, before.splitlines(), texts, autojunk=False)
    for kind, _, _, start, stop in matcher.get_opcodes():
        if kind != 'equal' and stop > start:
            lines += range(start + 1, stop + 1)
        elif kind != 'equal':
            above = max((number for number in written if number <= start), default=start)
            below = min((number for number in written if number > start), default=start + 1)
            lines += range(above, below + 1)
    return lines + [first for line in lines for first in _call_around(ast.parse(after), line)]


def _call_around(tree: ast.AST, line: int) -> list[int]:
    """The first line of the innermost call or display with the line among its own: there it seems to run."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call | ast.Dict | ast.List | ast.Tuple)]
    around = [node.lineno for node in calls if node.lineno < line <= (node.end_lineno or node.lineno)]
    return [max(around)] if around else []
