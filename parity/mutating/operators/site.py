"""Where in a file an operator looks, and small tools to read and to build LibCST nodes."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

MODULES = {'torch', 'F', 'nn', 'np', 'math', 'random', 'functools', 'copy', 'jnp', 'numpy'}


@dataclass(frozen=True)
class Site:
    """The surroundings of a node.

    module: the whole file.
    above:  its ancestors, the nearest last.
    """

    module: cst.Module
    above: tuple[cst.CSTNode, ...]

    @property
    def parent(self) -> cst.CSTNode | None:
        """The nearest ancestor."""
        return self.above[-1] if self.above else None

    @property
    def function(self) -> cst.FunctionDef | None:
        """The outermost function that it is in: the names of those around an inner one are its own, too."""
        return next((node for node in self.above if isinstance(node, cst.FunctionDef)), None)

    @property
    def function_names(self) -> list[str]:
        """The names of all functions that it is in."""
        return [node.name.value for node in self.above if isinstance(node, cst.FunctionDef)]

    def parameters(self) -> set[str]:
        """The names of the outermost function's parameters."""
        if self.function is None:
            return set()
        params = self.function.params
        return {param.name.value for param in (*params.params, *params.kwonly_params)}

    def names(self) -> set[str]:
        """The names that the outermost function knows: its parameters and what it assigns."""
        return self.parameters() | (_assigned_in(self.function) if self.function else set())

    def is_live(self, node: cst.CSTNode) -> bool:
        """Whether a gradient may flow through a value: not where only frozen reads and the batch go into it.

        That is told in functions that are given `grad_params`; elsewhere everything may be live.
        """
        if self.function is None or 'grad_params' not in self.parameters():
            return True
        return bool(_names_in(node) & _live_names(self.function))

    def strings(self) -> set[str]:
        """The values of all plain strings of the file."""
        return _strings_in(self.module)

    def attributes(self) -> set[str]:
        """The names of all attributes of the file."""
        return _attributes_in(self.module)

    def with_other(self, node: cst.CSTNode, other: cst.CSTNode) -> cst.Module:
        """The whole file with `other` in the place of `node`, which this is the site of."""
        for parent in reversed(self.above):
            node, other = parent, _with_child(parent, node, other)
        return cst.ensure_type(other, cst.Module)

    def in_loop_over(self, name: str) -> bool:
        """Whether a loop around it, or a function around it, counts in a variable of this name."""
        loops = (node.target for node in self.above if isinstance(node, cst.For))
        functions = (node for node in self.above if isinstance(node, cst.FunctionDef))
        params = (param.name for function in functions for param in function.params.params)
        return any(isinstance(node, cst.Name) and node.value == name for node in (*loops, *params))


def nodes(root: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and all that is in it."""
    yield root
    for child in root.children:
        yield from nodes(child)


@functools.lru_cache(maxsize=8192)
def code(node: cst.CSTNode) -> str:
    """The node's source text."""
    return cst.Module(body=()).code_for_node(node)


def expr(text: str) -> cst.BaseExpression:
    """An expression from its source text, in parentheses where it has lines."""
    return cst.parse_expression(f'({text})' if '\n' in text else text)


def callee(node: cst.CSTNode) -> str:
    """The last name of what a call calls: `minimum` of `torch.minimum(a, b)`; '' of anything else."""
    if not isinstance(node, cst.Call):
        return ''
    func = node.func
    return (
        func.attr.value
        if isinstance(func, cst.Attribute)
        else func.value
        if isinstance(func, cst.Name)
        else ''
    )


def arguments(call: cst.Call) -> str:
    """The source text of a call's arguments, in a line."""
    return ', '.join(code(arg.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for arg in call.args)


def receiver(call: cst.Call) -> cst.BaseExpression | None:
    """What a method is called on, `x` of `x.mean()`; None of functions, those of modules included."""
    if not isinstance(call.func, cst.Attribute):
        return None
    value = call.func.value
    return None if isinstance(value, cst.Name) and value.value in MODULES else value


def subject(call: cst.Call) -> cst.BaseExpression | None:
    """What a function or a method works on: `x` of `x.mean()`, of `torch.mean(x)` and of `gelu(x)`."""
    found = receiver(call)
    if found is None and call.args and call.args[0].keyword is None and not call.args[0].star:
        found = call.args[0].value
    return found


def renamed(call: cst.Call, name: str) -> cst.Call:
    """The call of another function or method with the same arguments."""
    func = call.func
    if isinstance(func, cst.Attribute):
        return call.with_changes(func=func.with_changes(attr=cst.Name(name)))
    return call.with_changes(func=cst.Name(name))


def find_arg(call: cst.Call, *keywords: str) -> int | None:
    """The number of the argument that is given by one of these keywords."""
    return next((i for i, arg in enumerate(call.args) if arg.keyword and arg.keyword.value in keywords), None)


def with_arg(call: cst.Call, i: int, value: cst.BaseExpression) -> cst.Call:
    """The call with another value of an argument."""
    args = list(call.args)
    args[i] = args[i].with_changes(value=value)
    return call.with_changes(args=args)


def without_arg(call: cst.Call, i: int) -> cst.Call:
    """The call without an argument."""
    args = [arg for k, arg in enumerate(call.args) if k != i]
    if args and i == len(call.args) - 1:
        args[-1] = args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return call.with_changes(args=args)


def with_more(call: cst.Call, text: str) -> cst.Call:
    """The call with one more argument at its end, from its source text."""
    (arg,) = cst.ensure_type(cst.parse_expression(f'f({text})'), cst.Call).args
    before = [arg.with_changes(comma=cst.MaybeSentinel.DEFAULT) for arg in call.args]
    return call.with_changes(args=[*before, arg])


def number(node: cst.CSTNode) -> float | int | None:
    """The value of a number, negative ones included; None of anything else."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        value = number(node.expression)
        return None if value is None else -value
    if isinstance(node, cst.Integer | cst.Float):
        value = node.evaluated_value
        return value if isinstance(value, int | float) else None
    return None


def string(node: cst.CSTNode) -> str | None:
    """The value of a plain string."""
    value = node.evaluated_value if isinstance(node, cst.SimpleString) else None
    return value if isinstance(value, str) else None


def mentions(node: cst.CSTNode, pattern: str) -> bool:
    """Whether the node's text has the pattern, upper or lower case."""
    return re.search(pattern, code(node), re.IGNORECASE) is not None


def assigned(statement: cst.CSTNode) -> cst.Assign | None:
    """The assignment, of a line that is one and nothing else."""
    if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
        (only,) = statement.body
        return only if isinstance(only, cst.Assign) else None
    return None


def with_body(block: cst.IndentedBlock, body: Sequence[cst.BaseStatement]) -> cst.IndentedBlock:
    """The block with other statements; an empty one passes."""
    return block.with_changes(body=list(body) or [cst.parse_statement('pass')])


def moved(items: Sequence[cst.BaseStatement], i: int, to: int) -> list[cst.BaseStatement]:
    """The statements with the one at i at another place."""
    rest = [item for k, item in enumerate(items) if k != i]
    return [*rest[:to], items[i], *rest[to:]]


@functools.lru_cache(maxsize=64)
def _assigned_in(function: cst.FunctionDef) -> set[str]:
    targets = (node.target for node in nodes(function) if isinstance(node, cst.AssignTarget))
    return {name.value for target in targets for name in nodes(target) if isinstance(name, cst.Name)}


def _names_in(node: cst.CSTNode) -> set[str]:
    return {each.value for each in nodes(node) if isinstance(each, cst.Name)}


@functools.lru_cache(maxsize=64)
def _live_names(function: cst.FunctionDef) -> set[str]:
    """The parameters but the batch, and what is computed from them."""
    params = {param.name.value for param in function.params.params}
    live = params - {'self', 'batch', 'rng', 'prefix', 'alpha', 'full_update'}
    for node in nodes(function):
        if isinstance(node, cst.Assign) and _names_in(node.value) & live:
            live |= {name for target in node.targets for name in _names_in(target.target)}
    return live


@functools.lru_cache(maxsize=4)
def _attributes_in(module: cst.Module) -> set[str]:
    return {node.attr.value for node in nodes(module) if isinstance(node, cst.Attribute)}


@functools.lru_cache(maxsize=4)
def _strings_in(module: cst.Module) -> set[str]:
    return {str(text.evaluated_value) for text in nodes(module) if isinstance(text, cst.SimpleString)}


def _with_child(parent: cst.CSTNode, child: cst.CSTNode, other: cst.CSTNode) -> cst.CSTNode:
    for field in dataclasses.fields(parent):
        value = getattr(parent, field.name)
        if value is child:
            return parent.with_changes(**{field.name: other})
        if isinstance(value, list | tuple) and any(item is child for item in value):
            return parent.with_changes(**{field.name: [other if item is child else item for item in value]})
    raise ValueError(f'{type(child).__name__} is no child of this {type(parent).__name__}')
