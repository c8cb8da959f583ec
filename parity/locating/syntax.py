"""Small questions to expressions of a syntax tree, and expressions from text."""

import ast


def rewritten(text: str) -> ast.expr:
    """An expression from its text."""
    return ast.parse(text, mode='eval').body


def call_name(node: ast.expr) -> str:
    """`amin` of `x.amin(0)` and of `torch.amin(x, 0)`."""
    if not isinstance(node, ast.Call):
        return ''
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')


def renamed(node: ast.Call, name: str) -> str:
    """The call with another function or method: `x.mean(0)` for `x.amin(0)`."""
    is_method = isinstance(node.func, ast.Attribute)
    function = ast.Attribute(node.func.value, name) if is_method else ast.Name(name)  # type: ignore[attr-defined]
    return ast.unparse(ast.Call(function, node.args, node.keywords))


def operand(node: ast.Call) -> str:
    """What a function or method works on: x of `torch.exp(x)`, `F.relu(x)` and `x.exp()`."""
    is_method = isinstance(node.func, ast.Attribute) and (
        not node.args
        or not isinstance(node.func.value, ast.Name)
        or node.func.value.id not in ('torch', 'F', 'math')
    )
    return ast.unparse(node.func.value if is_method else node.args[0])  # type: ignore[attr-defined]


def binary(left: ast.expr, sign: str, right: ast.expr) -> str:
    """`(left) sign (right)`."""
    return f'({ast.unparse(left)}) {sign} ({ast.unparse(right)})'


def is_integer(node: ast.expr) -> bool:
    """Whether it is a whole number, with or without a sign."""
    sign = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(sign, ast.Constant) and isinstance(sign.value, int)


def is_read(node: ast.expr) -> bool:
    """Whether its value is taken, not set."""
    return isinstance(getattr(node, 'ctx', ast.Load()), ast.Load)


def is_value(node: ast.expr) -> bool:
    """Whether it is computed, indexed or a variable: what a factor can be missing from."""
    return isinstance(node, ast.BinOp | ast.Call | ast.Subscript | ast.Name) and is_read(node)
