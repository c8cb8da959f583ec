"""What a line of the port can see and could have said, also by what the reference says."""

import ast
import re
from collections.abc import Collection
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
