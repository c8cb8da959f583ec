"""What the bridge raises: one error that lists every problem, as data and as text."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ProblemKind = Literal[
    'missing path',
    'unexpected path',
    'shape',
    'dtype',
    'value',
    'rule',
    'zero',
    'mapping',
    'ambiguous',
    'memory',
    'optimizer',
    'count',
    'format',
    'damaged',
    'refused',
]


@dataclass(frozen=True)
class Problem:
    """One path that does not fit; `expected` and `found` in Flax layout (`f32[4,8]`), `where` in torch."""

    kind: ProblemKind
    path: str
    expected: str
    found: str
    where: str = ''

    def __str__(self) -> str:
        where = f' ({self.where})' if self.where else ''
        return f'{self.kind}: {self.path}: expected {self.expected}, found {self.found}{where}'


class BridgeError(ValueError):
    """A tree, a module or an optimiser that cannot be bridged. Nothing was copied.

    `subject` says what was tried, `problems` holds every obstacle, `next_steps` what to do about them.
    """

    def __init__(self, subject: str, problems: Iterable[Problem], next_steps: Iterable[str]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        self.next_steps = tuple(next_steps)
        super().__init__(
            self.subject, self.problems, self.next_steps
        )  # all of them, so that it can be pickled

    def __str__(self) -> str:
        lines = [f'  {problem}' for problem in self.problems] + [
            f'  next: {step}' for step in self.next_steps
        ]
        return '\n'.join([self.subject, *lines])


_NEXT: dict[ProblemKind, str] = {
    'missing path': 'compare the paths with those of weight_bridge.to_flax(module); '
    "a layer class of your own names its rule with a class attribute, e.g. flax_rule = 'Dense'",
    'unexpected path': 'give the module the parameters that it lacks, or pass only its part of the tree',
    'shape': 'create both sides from the same configuration and the same example inputs',
    'dtype': 'cast the leaf on the side that made it; the bridge turns no kind of number into another',
    'value': 'create the module with dtype=torch.float64; the bridge rounds nothing',
    'rule': 'declare the rule on the layer class (flax_rule = ...) or add a row to weight_bridge/rules.py',
    'zero': 'torch adds two biases where Flax has one: add the one named into the other, zero it, and freeze '
    'it (requires_grad_(False)), since an optimiser would move both',
    'mapping': 'correct the rows of the table; mapping.to_toml() writes it, Mapping.from_toml(text) reads it',
    'ambiguous': 'keep one candidate in every row of mapping.to_toml(), or give match a reference and a port '
    'to run',
    'memory': 'give every parameter values of its own: run a lazy module once, module.to_empty(device=...) '
    'for one without memory and target.load_state_dict(online.state_dict()) for copies',
    'optimizer': 'make both optimisers of the same kind, over exactly the parameters of the module as it is '
    'now; weight_bridge/torch_state.py says which Optax state is which state of torch.optim',
    'count': 'optax has one count for the whole tree, so a skipped step has no counterpart: a gradient was '
    "None where JAX's is zero; give every parameter a gradient, zero_grad(set_to_none=False) keeps it",
}


def next_steps(problems: Iterable[Problem]) -> list[str]:
    """One step for each kind of problem that occurs, in the order of the kinds above."""
    kinds = {problem.kind for problem in problems}
    return [step for kind, step in _NEXT.items() if kind in kinds]
