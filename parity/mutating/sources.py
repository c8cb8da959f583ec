"""The source files that a port is made of: its module, and what it imports from its own package.

What it draws random numbers with is not one of them: that stands for jax.random itself.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parity.errors import ParityError
from parity.pair import Pair


@dataclass(frozen=True)
class Source:
    """A module and its text."""

    module: str
    path: Path

    @functools.cached_property
    def text(self) -> str:
        """The whole file."""
        return self.path.read_text()

    @property
    def file(self) -> str:
        """`torch_agents/iql.py`: the path as its package has it."""
        parts = self.module.split('.')
        return '/'.join(
            [*parts[:-1], self.path.name] if self.path.stem == parts[-1] else [*parts, self.path.name]
        )


def sources_of(pair: Pair) -> list[Source]:
    """The files of a pair's port, its own first. Raises ParityError where it has none."""
    start = pair.module_of('port')
    found: dict[str, Source] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop(0)
        path = _path(name)
        if name in found or name == pair.draws or path is None:
            continue
        found[name] = Source(name, path)
        waiting += _imports(found[name])
    if not found:
        raise ParityError(
            f'{pair.name}: the port has no source file',
            values=f'expected a Python file; found the module {start}',
            error='nothing to mutate',
            where=f'pair {pair.name}',
            next_step='name the port as module:attr',
        )
    return list(found.values())


def _imports(source: Source) -> Iterator[str]:
    """The modules of the same package that a file imports, anywhere in it."""
    package = source.module.partition('.')[0]
    for node in ast.walk(ast.parse(source.text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source.module, node)
            names = [base, *(f'{base}.{alias.name}' for alias in node.names)]
        yield from (name for name in names if name.partition('.')[0] == package)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ''
    parents = module.split('.')[: -node.level]
    return '.'.join([*parents, *([node.module] if node.module else [])])


def _path(module: str) -> Path | None:
    """The module's file; None for a name that is no module of Python source, and for an empty package."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith('.py'):
        return None
    path = Path(spec.origin)
    return None if path.name == '__init__.py' else path
