"""What a line of the port can see and could have said, also by what the reference says."""

import ast
import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

# What lines of the same meaning have otherwise.
MODULES = re.compile(r'\b(jax\.numpy|jax\.nn|jax|jnp|torch\.nn\.functional|torch|F|np)\.')
SPELT = (
    ('jax.nn.', 'torch.nn.functional.'),
    ('jax.random.', 'random.'),
    ('jax.lax.stop_gradient(', 'torch.Tensor.detach('),
    ('.min(', '.amin('),
    ('.max(', '.amax('),
)


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


def translated(node: ast.AST, known: Collection[str] = ()) -> str:
    """What the reference says as the port would spell it, where only the module's name differs.

    known: the names of the port's file, which may have a function of its own for one of jax.
    """
    text = re.sub(r'\bjnp\.(\w+)', lambda found: _spelt(found[1], known), ast.unparse(node))
    for theirs, ours in SPELT:
        text = text.replace(theirs, ours)
    return text


def _spelt(name: str, known: Collection[str]) -> str:
    return name if name in known else f'torch.{name}'


def as_reference(
    function: ast.FunctionDef, reference: ast.FunctionDef, known: Collection[str] = ()
) -> Iterator[tuple[ast.expr, str]]:
    """(the port's expression, the reference's) for what both functions set or return equally often."""
    ours, theirs = _set(function), _set(reference)
    for target in ours:
        if len(ours[target]) == len(theirs.get(target, ())):
            for own, other in zip(ours[target], theirs[target], strict=True):
                text = translated(other, known)
                if ast.unparse(own) != text:
                    yield own, text


def left_out(
    function: ast.FunctionDef, reference: ast.FunctionDef, known: Collection[str] = ()
) -> Iterator[tuple[ast.stmt, str]]:
    """(the port's statement, what the reference has before it and the port has not)."""
    ours = [ast.unparse(statement) for statement in function.body]
    theirs = [translated(statement, known) for statement in reference.body]
    for kind, start, _, first, last in difflib.SequenceMatcher(
        None, ours, theirs, autojunk=False
    ).get_opcodes():
        if kind == 'insert' and start < len(ours):
            yield function.body[start], '\n'.join(theirs[first:last])


def _set(function: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """What is assigned to each target, and what is returned."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            found.setdefault(ast.unparse(node.targets[0]), []).append(node.value)
        if isinstance(node, ast.Return) and node.value is not None:
            found.setdefault('return', []).append(node.value)
    return found
