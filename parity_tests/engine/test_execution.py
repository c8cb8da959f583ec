"""Devices, variants and precision: what cannot be done here is not_run, the rest is done as asked."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from parity import Case, Pair, Verdict, check, check_functions, execution, registered
from parity.backends.flushing import Flushing
from parity.cli import app
from parity.errors import ParityError
from parity.execution import Execution
from parity.growth import check_growth
from parity.locating.divergence import Divergence
from parity.models import JaxModel, ModelPair, TorchModel
from parity.parallel import of_execution
from parity.strategies import structures
from parity_tests.engine.broken_ports import MEAN_FOR_MIN
from reference_jax.iql import IQLAgent as Reference

NOWHERE = 'cuda:99'
SMALL = Case(seed=3, sizes={'B': 16, 'O': 17, 'A': 6})


@pytest.mark.parametrize('where', [{'device': NOWHERE}, {'reference_device': 'tpu'}])
def test_what_this_machine_lacks_is_not_run(where: dict[str, str]) -> None:
    verdict = check('iql', stages=['config', 'loss'], **where)  # type: ignore[arg-type]
    assert {stage.outcome for _, stage in verdict.stages()} == {'not_run'}
    assert all(stage.reason.startswith('no ') for _, stage in verdict.stages())
    (option,) = where
    assert verdict.cases[0].command.endswith(f'--{option.replace("_", "-")} {where[option]}')
    with pytest.raises(ParityError, match='device'):
        verdict.raise_if_mismatch()


def test_a_long_run_is_not_run_either() -> None:
    verdict = check_growth(registered()['iql'], 4, sources=['halfcheetah'], device=NOWHERE)
    assert [stage.outcome for _, stage in verdict.stages()] == ['not_run', 'not_run']
    assert verdict.growth == ()


def test_the_command_line_says_why_once_and_exits_with_2() -> None:
    result = CliRunner().invoke(
        app, ['check', 'iql', '--device', NOWHERE, '--stage', 'loss', '--stage', 'grads']
    )
    assert result.exit_code == 2
    assert result.output.count('no torch device cuda:99 here') == 1
    assert 'and 3 more, for the same reason' in result.output


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ParityError, match="torch knows no device 'gpu'"):
        Execution(device='gpu')
    with pytest.raises(ParityError, match='expected one of compiled, eager-jax'):
        Execution(variant='fast')


def test_reports_say_where_it_ran_and_how() -> None:
    assert Execution().described() == {'subnormal numbers': 'zero on both sides'}
    described = Execution('cuda', tf32=True, variant='compiled').described()
    assert described['TF32'] == 'on'
    assert described['variant'] == 'compiled'
    assert 'subnormal numbers' not in described
    assert Execution('cuda').described()['TF32'] == 'off'
    assert Execution('cuda', tf32=True).command('parity check x') == 'parity check x --device cuda --tf32'


def test_precision_is_set_and_put_back(request: pytest.FixtureRequest) -> None:
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    request.addfinalizer(lambda: setattr(products, 'allow_tf32', before))
    products.allow_tf32 = True
    with Execution('cuda').applied():
        assert not products.allow_tf32
        assert not products.allow_bf16_reduced_precision_reduction
    assert products.allow_tf32
    with Execution('cuda', tf32=True).applied():
        assert torch.backends.cudnn.allow_tf32


def keeps_subnormal_numbers() -> bool:
    return float(torch.tensor(1e-40) * 3) > 0


@pytest.mark.parametrize('before', [True, False])
def test_subnormal_numbers_are_zero_meanwhile(before: bool, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: torch.set_flush_denormal(False))
    torch.set_flush_denormal(not before)
    assert keeps_subnormal_numbers() is before
    with contextlib.suppress(ZeroDivisionError), Execution().applied():
        with Execution().applied():
            assert not keeps_subnormal_numbers()
        assert not keeps_subnormal_numbers()
        _ = 1 / 0
    assert keeps_subnormal_numbers() is before


@pytest.mark.parametrize('where', [{'device': 'cuda'}, {'reference_device': 'cuda'}])
def test_twin_a_gpu_keeps_them(where: dict[str, str]) -> None:
    with Execution(**where).applied():  # type: ignore[arg-type]
        assert keeps_subnormal_numbers()


def logarithms(dtype: str) -> Verdict:
    """Of what is too small to be a normal number in this precision."""
    factor = {'float32': 1e-10, 'float64': 1e-290}[dtype]
    reference = lambda x: jnp.log(x * factor)  # noqa: E731
    port = lambda x: torch.log(x * factor)  # noqa: E731
    return check_functions(reference, port, (np.float32([1e-30, 1.0]),), dtypes=[dtype])


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_number_that_xla_makes_zero_is_no_difference(dtype: str) -> None:
    logarithms(dtype).raise_if_mismatch()


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_twin_it_is_one_where_torch_keeps_it(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, 'set_flush_denormal', lambda mode: True)
    monkeypatch.setattr(Execution, 'flushes', False)
    assert logarithms(dtype).outcome == 'mismatch'


def deviations(dtype: str, port: Callable[[Any], Any] = lambda x: torch.log(torch.exp(x))) -> Verdict:
    """Of logarithms whose exponentials are subnormal; torch's exp of many numbers keeps those in any mode."""
    x = np.full(12, {'float32': -87.5, 'float64': -708.5}[dtype], np.float32)
    return check_functions(lambda x: jnp.log(jnp.exp(x)), port, (x,), dtypes=[dtype])


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_an_exponential_that_xla_makes_zero_is_no_difference(dtype: str) -> None:
    deviations(dtype).raise_if_mismatch()


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_twin_it_is_one_where_subnormal_results_are_kept(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Execution, 'flushes', False)
    assert deviations(dtype).outcome == 'mismatch'


def test_twin_what_is_finite_without_subnormal_numbers_is_found() -> None:
    port = lambda x: torch.log(torch.exp(x) + 1e-300)  # noqa: E731
    assert deviations('float64', port).outcome == 'mismatch'


def test_what_cannot_run_without_them_differs_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(Flushing, '__torch_dispatch__', refuses)
    assert deviations('float64').outcome == 'mismatch'


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_no_operation_makes_subnormal_numbers(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    x = torch.tensor([tiny, -tiny, 1.0, 0.0, -0.0, torch.inf, torch.nan], dtype=dtype, requires_grad=True)
    with Flushing():
        half, rows = x / 2, (x / 2).expand(3, -1)  # whose rows lie in the same place
        (grad,) = torch.autograd.grad((x[:2] * (tiny / 2)).sum(), x)
    assert_bits(half, [0.0, -0.0, 0.5, 0.0, -0.0, torch.inf, torch.nan])
    assert_bits(rows[2], half.tolist())
    assert_bits(grad, [0.0] * 7)
    assert_bits((x / 2)[:2], [tiny / 2, -tiny / 2])


def assert_bits(found: torch.Tensor, expected: list[float]) -> None:
    """Signs of zeros count."""
    np.testing.assert_array_equal(found.detach().numpy(), np.array(expected, found.detach().numpy().dtype))
    np.testing.assert_array_equal(np.signbit(found.detach().numpy()), np.signbit(expected))


TRACED: list[bool] = []


def _apply(variables: Any, batch: Any) -> Any:
    TRACED.append(any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(variables)))
    return batch['x'] @ variables['weight']


def model_pair(**port: Any) -> ModelPair:
    """One matrix product on both sides."""
    reference = JaxModel(lambda key: {'weight': jax.random.normal(key, (4, 3))}, apply=_apply)
    module = functools.partial(torch.nn.Linear, 4, 3, bias=False)
    apply = port.pop('apply', lambda linear, batch: linear(batch['x']))
    bridge = lambda variables: {'weight': variables['weight'].T}  # noqa: E731
    return ModelPair('product', reference, TorchModel(module, apply=apply), batch={'x': 'B 4'}, bridge=bridge)


def test_eager_jax_is_not_traced() -> None:
    TRACED.clear()
    assert check(model_pair(), stages=['forward'], dtypes=['float64']).outcome == 'match'
    assert all(TRACED)
    assert check(model_pair(), stages=['forward'], dtypes=['float64'], variant='eager-jax').outcome == 'match'
    assert not all(TRACED)


def test_twin_eager_jax_finds_a_wrong_port() -> None:
    wrong = model_pair(apply=lambda linear, batch: 1.0001 * linear(batch['x']))
    assert check(wrong, stages=['forward'], variant='eager-jax').outcome == 'mismatch'


def test_an_agent_without_jit() -> None:
    for pair, outcome in (('iql', 'match'), (MEAN_FOR_MIN, 'mismatch')):
        verdict = check(pair, cases=[SMALL], stages=['loss'], dtypes=['float64'], variant='eager-jax')
        assert verdict.outcome == outcome


@pytest.mark.slow  # twenty seconds of single operations
def test_a_long_run_without_jit() -> None:
    traced: list[bool] = []

    class Watched(Reference):
        def value_loss(self, batch: Any, grad_params: Any) -> Any:
            traced.append(isinstance(batch['rewards'], jax.core.Tracer))
            return super().value_loss(batch, grad_params)

    for port, outcome in (('torch_agents.iql:IQLAgent', 'match'), (MEAN_FOR_MIN.port, 'mismatch')):
        pair = dataclasses.replace(registered()['iql'], reference=Watched, port=port)
        verdict = check_growth(pair, 2, sources=['halfcheetah'], dtypes=['float64'], variant='eager-jax')
        assert verdict.outcome == outcome
    assert True in traced  # the samples of the noise
    assert False in traced  # the reference itself


def test_a_compiled_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as a whole, but not compiled by a C++ compiler."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    verdict = check(
        'iql', cases=[SMALL], stages=['loss', 'grads', 'update'], dtypes=['float64'], variant='compiled'
    )
    verdict.raise_if_mismatch()
    assert verdict.versions['variant'] == 'compiled'


@pytest.mark.xdist_group('crl_infonce')
@pytest.mark.parametrize('alone', [True, False])
def test_what_is_only_reported_makes_no_gradient(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch of one the logits of other rows are 0 / 0."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    if not alone:
        monkeypatch.setattr('torch_agents.agent.for_loss_alone', lambda loss_fn: loss_fn)
    pair = registered()['crl_infonce']
    sizes = {**structures(pair)[0]['sizes'], 'B': 1}
    verdict = check(pair, cases=[Case(sizes=sizes)], stages=['grads'], dtypes=['float64'], variant='compiled')
    assert verdict.outcome == ('match' if alone else 'mismatch')


@pytest.mark.xdist_group('dino_rebrac')
@pytest.mark.parametrize('as_written', [True, False])
def test_which_term_reaches_what_is_told_of_what_is_written(
    as_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled graph has one backward for all terms: a gradient of 0 times one that is infinite is NaN."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    if not as_written:
        monkeypatch.setattr(torch.compiler, 'set_stance', lambda stance: contextlib.nullcontext())
    pair = registered()['dino_rebrac']
    case = Case(seed=3, values='bounds', **structures(pair)[0])
    verdict = check(pair, cases=[case], stages=['grads'], dtypes=['float64'], variant='compiled')
    assert (verdict.outcome == 'match') is as_written


@pytest.mark.parametrize(('limit', 'outcome'), [(execution.RECOMPILATIONS, 'match'), (1, 'error')])
def test_what_is_not_compiled_any_more_is_no_match(
    limit: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each precision compiles anew; by default torch gives up after some, and runs what is written."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    monkeypatch.setattr(execution, 'RECOMPILATIONS', limit)
    torch.compiler.reset()
    verdict = check('iql', cases=[SMALL], stages=['loss'], variant='compiled')
    assert verdict.outcome == outcome
    assert all('recompile' in stage.reason for _, stage in verdict.stages() if stage.outcome == 'error')


def test_twin_a_compiler_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(loss: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            value, info = loss(*args, **kwargs)
            return value * (1 + 1e-9), info

        return call

    monkeypatch.setattr(torch, 'compile', wrong)
    verdict = check('iql', cases=[SMALL], stages=['loss'], dtypes=['float64'], variant='compiled')
    assert verdict.outcome == 'mismatch'


def test_a_port_without_compile_is_an_error() -> None:
    class Plain(registered()['iql'].load('port')):  # type: ignore[misc]
        compile = None

    pair: Pair = dataclasses.replace(registered()['iql'], port=Plain)
    verdict = check(pair, cases=[SMALL], stages=['forward'], dtypes=['float64'], variant='compiled')
    assert verdict.outcome == 'error'


@pytest.mark.parametrize(
    ('choice', 'notes'),
    [
        ({'tf32': True, 'variant': None}, ('without --tf32 nothing differs',)),
        ({'variant': 'compiled', 'reference_device': 'cuda'}, ('without --variant and --reference-device',)),
        ({'variant': None, 'tf32': False, 'reference_device': 'cpu'}, ()),
    ],
)
def test_what_no_line_explains_is_how_it_is_executed(choice: dict[str, Any], notes: tuple[str, ...]) -> None:
    found = of_execution(Divergence('pair', 'case', 'command'), choice).notes
    assert len(found) == len(notes)
    assert all(note.startswith(start) for note, start in zip(found, notes, strict=True))


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')


@gpu
@pytest.mark.filterwarnings('default')  # torch.compile warns, of draws in float64
@pytest.mark.parametrize('name', sorted(registered()))
def test_on_a_gpu(name: str) -> None:
    check(name, device='cuda').raise_if_mismatch()


@gpu
def test_twin_tf32_is_noticed() -> None:
    verdict = check('iql', stages=['forward'], dtypes=['float32'], device='cuda', tf32=True)
    assert verdict.outcome == 'mismatch'


@gpu
def test_draws_on_a_gpu() -> None:
    from torch_agents import random

    key = random.PRNGKey(3)
    for count in (1, 5, 1 << 20):
        np.testing.assert_array_equal(
            random.uniform(key.to('cuda'), (count,)).cpu(), random.uniform(key, (count,))
        )
