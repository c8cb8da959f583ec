"""What the engine's tests share: a pair that needs no framework, and a verdict with every outcome."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from parity.comparison import Leaf
from parity.errors import ParityError
from parity.pair import Pair
from parity.verdict import CaseResult, StageResult, Verdict

CONFIG = {
    'alpha': 10.0,
    'const_std': True,
    'actor_loss': 'awr',
    'steps': 10,
    'hidden_dims': (512, 512),
    'batch_size': 256,
    'latent_dim': 512,
    'encoder': None,
}


class Agent:
    """Has the methods' names that the script of updates looks for."""

    pretrain = finetune = target_reset = None


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A registered-looking pair, its agents in a module `toy_agents` that exists for one test."""
    module = ModuleType('toy_agents')
    agent = type('Agent', (Agent,), {'__module__': 'toy_agents'})
    pair = Pair(
        name='toy',
        reference='toy_agents:Agent',
        port='toy_agents:Agent',
        batch={'observations': 'B O', 'actions': 'B A | unit', 'rewards': 'B'},
        forward={'critic': 'observations actions', 'actor': 'latents'},
        extra={'latents': 'B L'},
        ensembles=('critic',),
        switches={'actor_loss': ('awr', 'ddpgbc', 'bc'), 'const_std': (True, False), 'steps': (1,)},
        sizes={'hidden_dims': (12, 10)},
        sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    )
    vars(module).update(Agent=agent, get_config=CONFIG.copy, TOY=pair, NUMBER=7)
    monkeypatch.setitem(sys.modules, 'toy_agents', module)
    return pair


@pytest.fixture
def raised() -> Callable[[Callable[[], object]], list[str]]:
    """The lines of the ParityError that a call raises."""

    def lines(call: Callable[[], object]) -> list[str]:
        with pytest.raises(ParityError) as caught:
            call()
        return str(caught.value).split('\n')

    return lines


def leaf(path: str, margin: float) -> Leaf:
    """A value leaf with this margin."""
    kind = 'value' if margin > 1 else None
    return Leaf(path, kind, 'f64[2] [1., 2.]', 'f64[2] [1., 9.]', margin * 1e-9, 1e-9, margin, (1,), 'why')


# What is said of the mismatch in `made`, in the five parts that every message has.
FAILURE = [
    'toy: grads differs in float64: missing path of b',
    '  reference f64[]',
    '  port      absent',
    '  error: inf; allowed: 0.000e+00 (structure)',
    '  at: index []; seed 3; 2 of 3 leaves differ',
    '  next: parity check toy --seed 3',
]


@pytest.fixture
def made() -> SimpleNamespace:
    """Parts of verdicts, a verdict with every outcome, and what is said of its mismatch."""
    absent = Leaf('b', 'missing path', 'f64[]', 'absent', np.inf, 0.0, np.inf, (), 'structure')
    stages = {
        'match': StageResult('loss', 'float64', 'match', (leaf('a', 0.5),)),
        'mismatch': StageResult('grads', 'float64', 'mismatch', (absent, leaf('a', 3.0), leaf('c', 0.0))),
        'error': StageResult('update', 'float32', 'error', (), 'ValueError: no'),
        'not_run': StageResult('actions', 'float32', 'not_run', (), 'no observations'),
    }

    def case(*outcomes: str) -> CaseResult:
        chosen = tuple(stages[outcome] for outcome in outcomes)
        return CaseResult('generated', 'seed 3', 'parity check toy --seed 3', chosen)

    def verdict(*outcomes: str) -> Verdict:
        return Verdict('toy', (case(*outcomes),), {'numpy': '2'}, 1.26)

    return SimpleNamespace(leaf=leaf, stages=stages, case=case, verdict=verdict, failure=FAILURE)


# a project of its own, with tests of its own
collect_ignore = ['user_project']
