"""What a line of the port can see and could have said, also by what the reference says."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Scope:
    """What a line could have said instead.

    names: local variables and parameters that are set before it; keys: strings that index something in the
    function; factors: expressions by which others are multiplied in it.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    factors: tuple[str, ...]


def scope_of(function: ast.FunctionDef, line: int, reference: ast.FunctionDef | None = None) -> Scope:
    """What a line of the function can see, and what other lines of it, or of the reference's, use."""
    nodes = list(ast.walk(function))
    stored = [
        n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.lineno < line
    ]
    names = [argument.arg for argument in function.args.args if argument.arg != 'self'] + stored
    both = [*(ast.walk(reference) if reference else ()), *nodes]
    keys = [n.slice.value for n in both if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)]
    products = [n for n in both if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult | ast.Div)]
    factors = [translated(side) for n in products for side in (n.left, n.right)]
    factors += [translated(n) for n in both if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Load)]
    strings = [key for key in keys if isinstance(key, str)]
    return Scope(*(tuple(dict.fromkeys(found)) for found in (names, strings, factors)))


def translated(node: ast.expr) -> str:
    """An expression of the reference as the port would spell it, where only the module's name differs."""
    text = ast.unparse(node)
    for theirs, ours in (('jnp.', 'torch.'), ('.min(', '.amin('), ('.max(', '.amax(')):
        text = text.replace(theirs, ours)
    return text


def as_reference(function: ast.FunctionDef, reference: ast.FunctionDef) -> Iterator[tuple[ast.expr, str]]:
    """(the port's expression, the reference's) for every variable that both functions set once."""
    ours, theirs = _assigned(function), _assigned(reference)
    for target in [target for target in ours if target in theirs]:
        if ast.unparse(ours[target]) != translated(theirs[target]):
            yield ours[target], translated(theirs[target])


def _assigned(function: ast.FunctionDef) -> dict[str, ast.expr]:
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            found.setdefault(ast.unparse(node.targets[0]), []).append(node.value)
    return {target: values[0] for target, values in found.items() if len(values) == 1}
