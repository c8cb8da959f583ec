"""What the port says otherwise than the reference, by the text of the functions that a computation calls."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch

import parity
from parity import Case
from parity.execution import Execution
from parity.locating.counterfactuals import Source, applied
from parity.locating.differences import UNLIKE, differences
from parity.locating.divergence import Place
from parity.locating.pieces import Judge
from parity.locating.unlike import Unlike, twins
from parity.pair import find
from parity.runs import Runs
from parity_tests.engine.planting import Substitution, planted
from torch_agents import random

LEFT_OUT = 'statement left out'


class Reference:
    def loss(self, x: Any, rng: Any) -> Any:
        rng, noise_rng = jax.random.split(rng)
        if x.shape[0] == 1:
            return x
        noises = jax.random.normal(noise_rng, x.shape)
        x = jnp.minimum(x, 2.0)
        x = x - noises
        return jax.lax.stop_gradient(x).mean()


class Same:
    def loss(self, x: Any, rng: Any) -> Any:
        rng, noise_rng = random.split(rng)
        if x.shape[0] == 1:
            return x
        noises = random.normal(noise_rng, x.shape, x.dtype)
        x = torch.minimum(x, 2.0)
        x = x - noises
        return x.detach().mean()


class Otherwise:
    def loss(self, x: Any, rng: Any) -> Any:
        rng, noise_rng = random.split(rng)  # noqa: RUF059
        if True:
            return x
        noises = random.normal(rng, x.shape, x.dtype)  # noqa: F841
        x = torch.maximum(x, 2.0)
        x = torch.exp(x)
        return x.detach().mean()


def told(port: Callable[..., Any]) -> list[tuple[str, str]]:
    """(name, change) of each difference from the reference's loss, by its lines' numbers from 1."""
    source = Source.of(port)
    first = source.tree.lineno
    changes = list(differences(source, Source.of(Reference.loss)))
    assert all(change.line for change in changes)
    numbers = [change.line.line - first for change in changes if change.line]
    return [
        (change.name, change.description.replace(f'line {number + first}', f'line {number}'))
        for change, number in zip(changes, numbers, strict=True)
    ]


def test_the_most_alike_lines_come_first_and_of_a_line_the_smallest_parts() -> None:
    """A mistake is a small difference; another way to say the same is a large one."""
    assert told(Otherwise.loss) == [
        (UNLIKE, 'line 5: `torch.minimum` instead of `torch.maximum`'),
        (UNLIKE, 'line 5: `torch.minimum(x, 2.0)` instead of `torch.maximum(x, 2.0)`'),
        *told(Same.loss)[1:],
        (UNLIKE, 'line 4: `noise_rng` instead of `rng`'),
        (
            UNLIKE,
            'line 4: `random.normal(noise_rng, x.shape)` instead of `random.normal(rng, x.shape, x.dtype)`',
        ),
        (UNLIKE, 'line 6: `x - noises` instead of `torch.exp(x)`'),
        ('condition', 'line 2: `x.shape[0] == 1` instead of `True`'),
    ]


def test_what_the_frameworks_call_otherwise_is_little() -> None:
    """A draw that is given a dtype, and a detach."""
    assert [change for _, change in told(Same.loss)] == [
        'line 4: `random.normal(noise_rng, x.shape)` instead of `random.normal(noise_rng, x.shape, x.dtype)`',
        'line 7: `torch.Tensor.detach(x)` instead of `x.detach()`',
        'line 7: `torch.Tensor.detach(x).mean` instead of `x.detach().mean`',
        'line 7: `torch.Tensor.detach(x).mean()` instead of `x.detach().mean()`',
    ]


def test_statements_too_many_and_too_few() -> None:
    def reference(x: Any) -> Any:
        scale = 3.0
        y = x + 0
        y.mul_(2)
        return y * scale

    def port(x: Any) -> Any:
        scale = 3.0
        scale += 1.0
        y = x + 0
        return y * scale

    changes = list(differences(Source.of(port), Source.of(reference)))
    by_name = {change.name: change for change in changes}
    x = torch.ones(1)
    assert port(x).item() == 4
    with applied([by_name['surplus statement']]):
        assert port(x).item() == 3
    with applied([by_name['surplus statement'], by_name['statement left out']]):
        assert port(x).item() == reference(x).item() == 6


def test_of_several_assignments_to_a_name_the_one_that_is_missing() -> None:
    def reference(x: Any) -> Any:
        x = torch.exp(x)
        x = x - x.mean()
        x = x * 2
        return x

    def port(x: Any) -> Any:
        x = torch.exp(x)
        x = x * 2
        return x

    (change,) = differences(Source.of(port), Source.of(reference))
    assert change.name == 'statement left out'
    assert change.description.endswith('`x = x - x.mean()`')
    assert change.reference is not None
    assert change.reference.text == 'x = x - x.mean()'
    with applied([change]):
        assert port(torch.ones(2)).tolist() == [0, 0]


def test_a_statement_that_is_missing_among_others() -> None:
    def reference(x: Any) -> Any:
        x = jnp.exp(x)
        return x.mean()

    def port(x: Any) -> Any:
        y = 2
        assert y
        return x.mean()

    left_out = [one for one in differences(Source.of(port), Source.of(reference)) if one.name == LEFT_OUT]
    assert [one.description.partition(': ')[2] for one in left_out] == ['`x = torch.exp(x)`']
    with applied(left_out):
        assert port(torch.zeros(2)).item() == 1


def test_a_pass_is_no_statement() -> None:
    def reference(x: Any) -> Any:
        for _ in range(2):
            x = x + 1
        return x

    def port(x: Any) -> Any:
        for _ in range(2):
            pass
        return x

    (change,) = differences(Source.of(port), Source.of(reference))
    with applied([change]):
        assert port(0) == 2


def test_what_is_no_expression_by_itself_is_changed_with_what_it_is_in() -> None:
    def reference(f: Any, x: Any) -> Any:
        return f(*x[1:])

    def port(f: Any, x: Any) -> Any:
        return f(x[0], *x[:1])

    changes = list(differences(Source.of(port), Source.of(reference)))
    assert port(max, [1, 2, 3]) == 1
    with applied([changes[-1]]):
        assert port(max, [1, 2, 3]) == reference(max, [1, 2, 3]) == 3


def test_functions_are_found_by_their_names() -> None:
    runs = Runs(find('iql'), Case(0, {'B': 3}), Execution())
    with runs.settings():
        call = next(iter(runs.reference64.calls()))
        found = twins(runs.pair, Judge(runs, call).leaves)
    names = {port.function.__qualname__: reference.function.__qualname__ for port, reference in found}
    assert names['IQLAgent.bc_loss' if 'IQLAgent.bc_loss' in names else 'Agent.bc_loss'].endswith('bc_loss')
    assert names['Actor.forward'] == 'Actor.__call__'
    assert all(port.function is not reference.function for port, reference in found)


def test_a_setup_has_from_the_arguments_of_init_what_it_reads_of_its_module() -> None:
    """A layer less: with self.hidden_dims, as setup says it, no module could be made."""
    gone = Substitution('networks.py', 'hidden_dims = (*hidden_dims, self.value_dim)', 'pass', times=2)
    with planted('hilp', gone) as made:
        finding = parity.locate(made.pair, case=Case(0, {'B': 3}), stage='params').findings[0]
    assert finding.cause is not None
    assert finding.cause.description.endswith('`hidden_dims = (*hidden_dims, value_dim)`')
    assert finding.reference is not None
    assert finding.reference.function == 'GCValue.setup'


def test_another_default_of_any_function_is_found_at_its_argument() -> None:
    """It is read at a line that may be changed to explain as much."""
    wrong = Substitution(
        'rebrac.py',
        'def noisy_mode(self, dist, rng, scale=1.0)',
        'def noisy_mode(self, dist, rng, scale=2.0)',
    )
    with planted('rebrac', wrong) as made:
        finding = parity.locate(made.pair, case=Case(0, {'B': 3}), stage='loss').findings[0]
    assert finding.port is not None
    assert wrong.new in finding.port.text
    assert finding.cause is not None
    assert finding.cause.name == 'other default'


def cause_in(file: str, old: str, new: str) -> tuple[Unlike, tuple[str, str] | None]:
    """What is found in iql with a substitution in a file: (the cause's name, the line's text)."""
    with planted('iql', Substitution(file, old, new)) as made:
        runs = Runs(made.pair, Case(0, {'B': 5}), Execution())
        with runs.settings():
            call = next(call for call in runs.reference64.calls() if call.name == 'finetuning_full')
            judge = Judge(runs, call)
            unlike = Unlike(made.pair, judge.leaves, judge.margin)
            cause = unlike.cause()
            if cause is None:
                return unlike, None
            line = cause[1].line
            assert line is not None
            assert unlike.has(Place.of(line))
            assert not unlike.has(Place.of(line._replace(line=line.line + 1)))
            return unlike, (cause[0].name, line.text)


def test_the_line_that_explains_all_has_the_name_of_a_known_mistake() -> None:
    _, cause = cause_in(
        'implicit_q.py', "batch['next_observations'], **goals", "batch['observations'], **goals"
    )
    assert cause == (
        'other key',
        "next_v = self.network.select(f'{prefix}value')(batch['observations'], **goals)",
    )


def test_twin_what_no_text_explains() -> None:
    """The reference's LayerNorm is flax's own: nothing of the user's says otherwise."""
    _, cause = cause_in('layers.py', 'num_ensembles=1, eps=1e-6)', 'num_ensembles=1, eps=1e-3)')
    assert cause is None
