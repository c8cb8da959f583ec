"""A pickle, read by a machine of our own: it has no opcode that calls anything but our builders.

Python's own `pickle.load` runs what the file names. This one follows the opcodes (`pickletools.genops`) on a
stack of plain values; a class or function is only a name on it, and the names in `builders` stand for
functions that check their arguments. Every other name is refused, all of them in one error.

Memory is bounded by the size of the file: a shape must match its bytes, the memo is a dict, what builders are
called with is added up, and containers that refer to one another more often than the pickle has opcodes (or
to themselves) are refused.
"""

import mmap
import pickletools
from collections.abc import Callable
from typing import IO, Any, cast

from weight_bridge.checkpoints.builders import BUILDERS, Array, DType, Name, Refused
from weight_bridge.checkpoints.problems import CodeRefused

_DEEPEST = 200


def read(data: bytes | mmap.mmap) -> Any:
    """The containers and arrays of a pickle.

    Raises:
        CodeRefused: it names anything that is not in BUILDERS; all such names are listed.
        Exception: of any kind, if it is damaged.
    """
    machine = Machine()
    try:
        result = machine.run(data)
    except Exception:
        if not machine.refused:
            raise
    if machine.refused:
        raise CodeRefused(machine.refused)
    return _plain(result, [machine.opcodes], 0)


class Machine:
    """The stack, the marks and the memo of one pickle; `refused` {name: how it was used}.

    opcodes: how many have been run. spent, budget: characters and items that builders have got, and may get.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.refused: dict[str, str] = {}
        self.opcodes = 0
        self.spent = self.budget = 0

    def run(self, data: bytes | mmap.mmap) -> Any:
        end, self.budget = 0, 2 * len(data) + 2**16
        for opcode, argument, position in pickletools.genops(
            cast(IO[bytes], data)
        ):  # STOP is the last of them
            self.opcodes, end = self.opcodes + 1, (position or 0) + 1
            if opcode.name in _VALUES:
                self.stack.append(_CONSTANTS.get(opcode.name, argument))
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                self._refuse_opcode(opcode, argument)
        if len(data) != end or self.marks:
            raise ValueError('bytes or objects after its end')
        (result,) = self.stack
        return result

    def name(self, module: Any, name: Any) -> None:
        full = f'{module}.{name}'
        if full not in BUILDERS:
            self.refuse(full, 'named')
        else:
            self.stack.append(Name(full))

    def refuse(self, name: str, how: str) -> None:
        self.refused.setdefault(name, how)
        self.stack.append(Refused())

    def _refuse_opcode(self, opcode: Any, argument: Any) -> None:
        """Classes by INST, OBJ, NEWOBJ or EXT1, persistent ids, sets, buffers outside the file."""
        before, used = list(opcode.stack_before), []
        if pickletools.markobject in before:
            del before[before.index(pickletools.markobject) :]
            used = self.pop_mark()
        used += self.take(len(before))
        if not any(isinstance(part, Refused) for part in used):  # else its name is already on the list
            shown = '' if argument is None else f' {argument}'
            self.refused.setdefault(f'{opcode.name}{shown}', 'an opcode')
        self.stack.append(Refused())

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, Refused) or any(isinstance(part, Refused) for part in arguments):
            self.stack.append(Refused())
            return
        builder = BUILDERS.get(function) if isinstance(function, Name) else None
        if builder is None:
            raise ValueError(f'a call of {function!r}')
        self.spent += sum(len(part) for part in arguments if isinstance(part, str | dict | list | tuple))
        if self.spent > self.budget:
            raise ValueError('more to build than the file has bytes')
        made = builder(*arguments)
        self.refuse(made, 'a dtype') if isinstance(made, str) else self.stack.append(made)

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Refused) or any(isinstance(part, Refused) for part in _parts(state)):
            self.stack[-1] = Refused()
        elif isinstance(target, Array | DType):
            target.build(state)
        else:
            raise ValueError(f'a state for {type(target).__name__}')

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list | Refused):
            raise ValueError(f'items for {type(target).__name__}')
        target.extend(items) if isinstance(target, list) else None

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | Refused):
            raise ValueError(f'entries for {type(target).__name__}')
        target.update(_pairs(items)) if isinstance(target, dict) else None

    def take(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError('an empty stack')
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def make(self, items: list[Any], kind: Callable[[list[Any]], Any]) -> None:
        self.stack.append(kind(items))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _parts(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple | list) else [state]


def _stop(machine: Machine, _: Any) -> None:
    """The result stays on the stack."""


def _two_strings(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(' ')  # as genops joins them
    machine.name(module, name)


def _stack_global(machine: Machine, _: Any) -> None:
    module, name = machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError('a name that is no text')
    machine.name(module, name)


_VALUES = {
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4'),
    *('FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE'),
    *('SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    'PROTO': lambda machine, _: None,
    'FRAME': lambda machine, _: None,
    'STOP': _stop,
    'MARK': lambda machine, _: machine.mark(),
    'POP': lambda machine, _: machine.take(1),
    'POP_MARK': lambda machine, _: machine.pop_mark(),
    'DUP': lambda machine, _: machine.stack.append(machine.stack[-1]),
    'EMPTY_TUPLE': lambda machine, _: machine.stack.append(()),
    'EMPTY_LIST': lambda machine, _: machine.stack.append([]),
    'EMPTY_DICT': lambda machine, _: machine.stack.append({}),
    'TUPLE1': lambda machine, _: machine.make(machine.take(1), tuple),
    'TUPLE2': lambda machine, _: machine.make(machine.take(2), tuple),
    'TUPLE3': lambda machine, _: machine.make(machine.take(3), tuple),
    'TUPLE': lambda machine, _: machine.make(machine.pop_mark(), tuple),
    'LIST': lambda machine, _: machine.make(machine.pop_mark(), list),
    'DICT': lambda machine, _: machine.make(machine.pop_mark(), _pairs),
    'APPEND': lambda machine, _: machine.extend(machine.take(1)),
    'APPENDS': lambda machine, _: machine.extend(machine.pop_mark()),
    'SETITEM': lambda machine, _: machine.update(machine.take(2)),
    'SETITEMS': lambda machine, _: machine.update(machine.pop_mark()),
    'PUT': lambda machine, index: machine.put(index),
    'BINPUT': lambda machine, index: machine.put(index),
    'LONG_BINPUT': lambda machine, index: machine.put(index),
    'MEMOIZE': lambda machine, _: machine.put(None),
    'GET': lambda machine, index: machine.stack.append(machine.memo[index]),
    'BINGET': lambda machine, index: machine.stack.append(machine.memo[index]),
    'LONG_BINGET': lambda machine, index: machine.stack.append(machine.memo[index]),
    'GLOBAL': _two_strings,
    'STACK_GLOBAL': _stack_global,
    'REDUCE': lambda machine, _: machine.reduce(),
    'BUILD': lambda machine, _: machine.build(),
}


def _plain(node: Any, left: list[int], depth: int) -> Any:
    """The built arrays in the place of their makers; `left` counts down the parts there can be."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise ValueError('containers that refer to one another over and over')
    if isinstance(node, dict):
        return {_key(key): _plain(part, left, depth + 1) for key, part in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(part, left, depth + 1) for part in node]
    if isinstance(node, Array) and node.array is not None:
        return node.array
    if isinstance(node, Array | DType | Name):
        raise ValueError(f'{node if isinstance(node, Name) else type(node).__name__} in the place of a leaf')
    return node


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f'the key {key!r}')
    return key
