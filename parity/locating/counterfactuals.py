"""Changes of the port in memory, undone at the end of a context: a setting, an operation, a source line."""

import ast
import contextlib
import copy
import functools
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from parity.locating.sources import Line, is_user

Result = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Counterfactual:
    """What if the port were otherwise in one place.

    name: of the known difference that this would be; description: the change itself, from what to what.
    apply: makes it for the length of a context.
    line: the line of source that is another then; None where none is.
    reference: the line of the reference's that says so; None where none is known to.
    """

    name: str
    description: str
    apply: Callable[[], AbstractContextManager[Any]]
    line: Line | None = None
    reference: Line | None = None


@contextlib.contextmanager
def applied(counterfactuals: Iterable[Counterfactual]) -> Iterator[None]:
    """All of them at once, in their order: what is found stays in force while the search goes on."""
    with contextlib.ExitStack() as stack:
        for one in counterfactuals:
            stack.enter_context(one.apply())
        yield


@contextlib.contextmanager
def settings(owners: Iterable[Any], name: str, value: Any) -> Iterator[None]:
    """The attribute of some objects with another value."""
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def operation(names: Iterable[str], result: Result) -> AbstractContextManager[Any]:
    """result(function, args, kwargs) in the place of what torch's functions of these names return."""
    from torch.overrides import TorchFunctionMode

    chosen = set(names)

    class Replacing(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, '__name__', '') in chosen:
                return result(function, args, kwargs or {})
            return function(*args, **(kwargs or {}))

    return Replacing()


@dataclass(frozen=True, eq=False)
class Source:
    """A function of the port with its syntax tree, in the lines of its file.

    edits: what is in the place of which node now, by its id: changes of one source add up.
    """

    function: types.FunctionType
    tree: ast.FunctionDef
    edits: dict[int, ast.AST] = field(default_factory=dict)

    @classmethod
    def of(cls, function: Any) -> 'Source':
        """The one source of a function or method, without its decorators.

        Raises OSError if there is none, LookupError if it is no `def`.
        """
        return _source(inspect.unwrap(getattr(function, '__func__', function)))

    @classmethod
    def if_any(cls, function: Any) -> 'Source | None':
        """The same, None where there is none."""
        return found_or_none(functools.partial(cls.of, function))

    @classmethod
    def at(cls, line: Line) -> 'Source | None':
        """That of the function that a line of an imported file is in, None where there is none."""
        return found_or_none(functools.partial(source_at, line.file, line.line))

    def line_of(self, node: ast.stmt | ast.expr | ast.arg) -> Line:
        """The line that a node begins on."""
        code = self.function.__code__
        return Line(code.co_filename, node.lineno, code.co_qualname)

    def is_of(self, line: Line) -> bool:
        """Whether the line is one of the function."""
        return (
            line.file == self.function.__code__.co_filename and _statement(self.tree, line.line) is not None
        )

    def expressions(self, line: int | None = None) -> list[ast.expr]:
        """Those of the statement at a line, or of the whole function, outer ones first.

        Of a compound statement, a loop or a condition, only the head; of loops around a line theirs, too.
        """
        statement = None if line is None else _statement(self.tree, line)
        if line is not None and statement is None:
            return []
        if statement is None:
            nodes = list(ast.walk(ast.Module(self.tree.body, [])))
        else:
            loops = [
                node for node in ast.walk(self.tree) if isinstance(node, ast.For) and node is not statement
            ]
            around = [loop for loop in loops if any(node is statement for node in ast.walk(loop))]
            nodes = [node for part in (statement, *around) for node in _own(part)]
        return [node for node in nodes if isinstance(node, ast.expr)]

    def blocks(self) -> list[list[ast.stmt]]:
        """The statements of the function, and of each of its loops and branches."""
        parts = [getattr(node, name, None) for node in ast.walk(self.tree) for name in ('body', 'orelse')]
        return [part for part in parts if isinstance(part, list)]

    def lines_up_to(self, line: int) -> list[int]:
        """The first lines of the statements, backwards from the one that a line is in."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.stmt) and node is not self.tree)
        return sorted({node.lineno for node in nodes if node.lineno <= line}, reverse=True)

    def lines_into(self, line: int) -> list[int]:
        """The first lines of the statement that a line is in and of those before that set what it uses.

        Backwards, through all that these use in turn.
        """
        own = _statement(self.tree, line)
        names = _names(own, ast.Load) if own else set()
        found = [own] if own else []
        for before in self.lines_up_to(line)[1:]:
            statement = _statement(self.tree, before)
            if statement is not None and names & _names(statement, ast.Store):
                names |= _names(statement, ast.Load)
                found.append(statement)
        return [statement.lineno for statement in found]

    def swapped(self, first: ast.stmt, second: ast.stmt) -> AbstractContextManager[None]:
        """The function with two statements in each other's place, for the length of a context."""
        return self._edited({id(first): second, id(second): first})

    def replaced(self, node: ast.AST, new: ast.AST) -> AbstractContextManager[None]:
        """The function with `new` in the place of a node, set where that is, for the length of a context."""
        if isinstance(getattr(node, 'ctx', None), ast.Store):
            for part in (one for one in ast.walk(new) if hasattr(one, 'ctx')):
                part.ctx = ast.Store()
        return self._edited({id(node): ast.copy_location(new, node)})

    def preceded(self, statement: ast.stmt, others: list[ast.stmt]) -> AbstractContextManager[None]:
        """The function with other statements before one of it, for the length of a context."""
        block = ast.If(ast.Constant(True), [*others, statement], [])
        return self._edited({id(statement): ast.copy_location(block, statement)})

    @contextlib.contextmanager
    def _edited(self, edits: dict[int, ast.AST]) -> Iterator[None]:
        """Every reference to the function runs the other code: methods, imports and partial objects alike."""
        original, before = self.function.__code__, dict(self.edits)
        self.edits.update(edits)
        try:
            tree = ast.fix_missing_locations(copy.deepcopy(self.tree, dict(self.edits)))
            self.function.__code__ = _compiled(self.function, tree)
            yield
        finally:
            self.function.__code__ = original
            self.edits.clear()
            self.edits.update(before)


def found_or_none(find: Callable[[], Source]) -> Source | None:
    """What is found; a lambda and the code of a library written in C have no source."""
    try:
        return find()
    except (LookupError, OSError, TypeError):
        return None


@functools.cache  # changes of a function add up only if all are made through one source
def _source(function: types.FunctionType) -> Source:
    lines, start = inspect.getsourcelines(function)
    try:
        tree = ast.parse(textwrap.dedent(''.join(lines))).body[0]
    except SyntaxError as cause:  # a part of a line: a lambda among others
        raise LookupError(f'{function.__qualname__} is no function of its own lines') from cause
    if not isinstance(tree, ast.FunctionDef):
        raise LookupError(f'{function.__qualname__} is no function of its own lines')
    ast.increment_lineno(tree, start - 1)
    tree.decorator_list = []
    return Source(function, tree)


def source_at(path: str, line: int) -> Source:
    """The innermost method or top-level function of an imported file that the line is in.

    Raises LookupError if no imported function is there.
    """
    modules = [module for module in list(sys.modules.values()) if getattr(module, '__file__', None) == path]
    for module in modules:
        for function in _functions(module):
            lines, start = inspect.getsourcelines(function)
            if start <= line < start + len(lines):
                return Source.of(function)
    raise LookupError(f'no imported function at {path}:{line}')


def functions_in(files: Collection[str]) -> Iterator[types.FunctionType]:
    """The functions of imported files, and those of their classes."""
    for module in list(sys.modules.values()):
        if getattr(module, '__file__', None) in files:
            yield from _functions(module)


def helpers(source: Source) -> list[Source]:
    """The functions under check that a function calls by a name of its file."""
    calls = (node.func for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    names = dict.fromkeys(function.id for function in calls if isinstance(function, ast.Name))
    known = source.function.__globals__
    functions = [inspect.unwrap(known[name]) for name in names if name in known]
    own = [one for one in functions if inspect.isfunction(one) and is_user(one.__code__.co_filename)]
    return list(sources_of(own))


def sources_of(functions: Iterable[Any]) -> Iterator[Source]:
    """The sources of those functions that have one."""
    return (source for source in map(Source.if_any, functions) if source)


def _functions(module: types.ModuleType) -> Iterator[types.FunctionType]:
    """The functions that a file defines, and those of its classes."""
    for value in vars(module).values():
        for member in vars(value).values() if inspect.isclass(value) else (value,):
            plain = inspect.unwrap(getattr(member, '__func__', member))
            # not what is imported, nor what a dataclass generates
            if inspect.isfunction(plain) and plain.__code__.co_filename == module.__file__:
                yield plain


def _statement(tree: ast.AST, line: int) -> ast.stmt | None:
    found: ast.stmt | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node is not tree and node.lineno <= line <= (node.end_lineno or 0):
            found = node  # walked from the outside inwards
    return found


def _names(statement: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    """The names that a statement itself reads or sets."""
    nodes = (node for node in _own(statement) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, context)}


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """All nodes of a statement that are not in the statements inside it."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from ast.walk(child)


def _compiled(function: types.FunctionType, tree: ast.FunctionDef) -> types.CodeType:
    """The code of the changed function, with the same free variables as the original."""
    free = function.__code__.co_freevars
    outer = ast.parse('def outer():\n    pass').body[0]
    assert isinstance(outer, ast.FunctionDef)
    targets = [ast.Name(name, ast.Store()) for name in free]
    cells = [ast.Assign([target], ast.Constant(None)) for target in targets]
    outer.body = [*cells, tree]
    wrapped = ast.fix_missing_locations(ast.Module([outer], []))
    code = compile(wrapped, function.__code__.co_filename, 'exec')
    made = next(found for found in _codes(code) if found.co_name == tree.name)
    if made.co_freevars != free:
        raise SyntaxError(f'{tree.name}: a change may not alter the free variables')
    return made.replace(co_qualname=function.__code__.co_qualname)  # by which its lines are told


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)
