"""parity.locate: the line, the module and the cause, from the first stage that differs."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

import parity
from parity import Case, Divergence, ParityError
from parity.locating.divergence import Finding
from parity_tests.engine import broken_ports, model_pairs
from parity_tests.engine.planting import Substitution, planted

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def functions(reference: Callable[..., Any], port: Callable[..., Any], x: np.ndarray = X) -> Divergence:
    return parity.locate(reference=reference, port=port, inputs=(x,))


def first(found: Divergence) -> Finding:
    assert found.outcome == 'mismatch', found.notes
    assert [finding.rank for finding in found.findings] == list(range(1, len(found.findings) + 1))
    return found.findings[0]


def said(finding: Finding) -> tuple[str, str, str]:
    """(kind, the port's line, the name of the cause)."""
    assert finding.port is not None
    assert finding.cause is not None
    return finding.kind, finding.port.text, finding.cause.name


# --- functions


def weighted(x: Any) -> Any:
    y = jnp.tanh(x)
    weights = jax.nn.softmax(y, -1)
    return {'mean': (weights * x).sum(-1), 'spread': jnp.var(y, -1)}


def same(x: Any) -> Any:
    y = torch.tanh(x)
    weights = torch.softmax(y, -1)
    return {'mean': (weights * x).sum(-1), 'spread': y.var(-1, correction=0)}


def other_axis(x: Any) -> Any:
    y = torch.tanh(x)
    weights = torch.softmax(y, 0)
    return {'mean': (weights * x).sum(-1), 'spread': y.var(-1, correction=0)}


def two_mistakes(x: Any) -> Any:
    y = torch.tanh(x)
    weights = torch.softmax(y, 0)
    spread = y.var(-1)
    return {'mean': (weights * x).sum(-1), 'spread': spread}


def detached(x: Any) -> Any:
    y = torch.tanh(x)
    weights = torch.softmax(y.detach(), -1)
    return {'mean': (weights * x).sum(-1), 'spread': y.var(-1, correction=0)}


def raising(x: Any) -> Any:
    y = torch.tanh(x)
    return {'mean': y @ y, 'spread': y.var(-1, correction=0)}


def test_a_correct_function_has_no_findings() -> None:
    found = functions(weighted, same)
    assert found.outcome == 'match'
    assert (found.stages, found.findings, found.explained, found.notes) == ((), (), None, ())


def test_twin_a_wrong_line_is_found_with_its_cause() -> None:
    found = functions(weighted, other_axis)
    finding = first(found)
    assert said(finding) == ('value', 'weights = torch.softmax(y, 0)', 'other axis')
    assert finding.reference is not None
    assert finding.reference.text == 'weights = jax.nn.softmax(y, -1)'
    assert finding.reaches == ('mean',)
    assert any('tanh' in agreed for agreed in finding.agreed)
    assert found.explained is True
    assert [stage.stage for stage in found.stages] == ['forward']


def test_each_of_two_mistakes_has_its_own_cause() -> None:
    found = functions(weighted, two_mistakes)
    causes = {f.port.text: f.cause.name for f in found.findings if f.is_explained and f.port and f.cause}
    assert causes == {
        'weights = torch.softmax(y, 0)': 'other axis',
        'spread = y.var(-1)': 'biased variance',
    }
    assert found.explained is True


def test_a_gradient_alone_is_found_where_it_stops() -> None:
    finding = first(functions(weighted, detached))
    assert said(finding) == ('cotangent', 'weights = torch.softmax(y.detach(), -1)', 'detach too many')
    assert finding.stage == 'grads'


def test_a_function_that_raises_has_its_line_and_what_agreed() -> None:
    finding = first(functions(lambda x: {**weighted(x), 'mean': jnp.tanh(x) @ jnp.tanh(x).T}, raising))
    assert finding.kind == 'error'
    assert finding.port is not None
    assert finding.port.text.startswith("return {'mean': y @ y")
    assert finding.why.startswith('raises RuntimeError: mat1 and mat2')
    assert any('tanh' in agreed for agreed in finding.agreed)


def test_an_unknown_cause_has_the_nearest_change() -> None:
    def port(x: Any) -> Any:
        y = torch.tanh(x)
        z = torch.sin(3 * y) / 7
        return z

    found = functions(jnp.tanh, port)
    assert first(found).cause is not None
    assert not first(found).is_explained
    assert found.explained is None


def test_a_difference_in_float32_alone_is_said_and_not_located() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) + (1e-5 if x.dtype == torch.float32 else 0.0)

    found = functions(jnp.sin, port)
    assert found.outcome == 'error'
    assert [stage.dtype for stage in found.stages] == ['float32']
    assert not found.findings
    assert found.notes[0].startswith('float64 agrees')


@pytest.mark.filterwarnings('ignore:.torch.jit.script_method. is deprecated')  # torch's own compiler uses it
def test_a_compiled_function_is_looked_into() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(x)

    finding = first(functions(jax.nn.gelu, torch.compile(port)))
    assert said(finding) == ('value', 'return functional.gelu(x)', 'gelu variant')


def test_all_that_was_found_is_json() -> None:
    found = functions(weighted, two_mistakes)
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (read['format'], read['outcome']) == (1, 'mismatch')
    assert read['findings'][0]['port']['text'] == first(found).port.text  # type: ignore[union-attr]
    assert read['stages'][0]['leaves'][0]['path'] == found.stages[0].leaves[0].path
    assert set(read) == {'format', 'outcome', *(field.name for field in dataclasses.fields(Divergence))}


def test_nothing_to_locate_is_refused(raised: Callable[[Callable[[], object]], list[str]]) -> None:
    assert raised(lambda: parity.locate(reference=jnp.sin))[0] == 'there is nothing to locate in'


def test_a_reference_that_raises_is_refused() -> None:
    def reference(x: Any) -> Any:
        raise ValueError('not written yet')

    with pytest.raises(ParityError, match='the reference raises in forward'):
        functions(reference, torch.sin)


# --- models and agents


@pytest.fixture(scope='module')
def linen_epsilon() -> Divergence:
    return parity.locate(model_pairs.LINEN_EPSILON, case=Case(seed=1), stage='loss')


def test_a_wrong_module_and_its_line_are_one_finding(linen_epsilon: Divergence) -> None:
    finding = first(linen_epsilon)
    assert finding.kind == 'module'
    assert finding.modules == ('LayerNorm_0',)
    assert finding.port is not None
    assert 'self.norm(self.inner(x))' in finding.port.text
    assert finding.cause is not None
    assert finding.cause.description == 'LayerNorm.eps = 1e-06 instead of 1e-05'
    assert linen_epsilon.explained is True
    assert sum('LayerNorm_0' in finding.modules for finding in linen_epsilon.findings) == 1


def test_every_module_call_is_a_row(linen_epsilon: Divergence) -> None:
    rows = {row.path: row.forward for row in linen_epsilon.modules['train']}
    assert rows['LayerNorm_0'] == 'culprit'
    assert rows['Dense_0'] == 'match'


def test_twin_the_correct_model_has_no_findings() -> None:
    found = parity.locate(model_pairs.LINEN, case=Case(seed=1), stage='loss')
    assert (found.outcome, found.findings) == ('match', ())


def test_an_agent_and_the_command_that_locates_again() -> None:
    found = parity.locate(broken_ports.MEAN_FOR_MIN, case=Case(seed=1), stage='loss', loss='finetuning_full')
    finding = first(found)
    kind, line, cause = said(finding)
    assert (kind, cause) == ('value', 'other reduction')
    assert line.endswith('.mean(axis=0)')
    assert finding.difference is not None
    assert finding.allowed is not None
    assert finding.difference > 1e6 * finding.allowed
    assert found.command == (
        'parity locate mean_for_min --seed 1 --values plain --stage loss --loss finetuning_full'
    )


def test_a_large_batch_is_tried_with_fewer_rows_first() -> None:
    lines: list[str] = []
    case = Case(seed=1, sizes={'B': 100})
    found = parity.locate(broken_ports.TARGET_OF_ITS_OWN, case=case, stage='params', progress=lines.append)
    assert 'B=16' in found.case
    assert found.findings
    assert not any('B=100' in line for line in lines)


def test_twin_what_fewer_rows_do_not_show_is_looked_for_in_all() -> None:
    lines: list[str] = []
    case = Case(seed=1, sizes={'B': 100})
    found = parity.locate(broken_ports.MANY_ROWS, case=case, stage='params', progress=lines.append)
    assert 'B=100' in found.case
    assert found.findings
    assert any('B=16' in line for line in lines)


def test_unknown_stages_and_losses_are_refused() -> None:
    for words in ({'stage': 'lost'}, {'loss': 'training'}):
        with pytest.raises(ParityError, match=r'unknown (stage|loss): '):
            parity.locate(broken_ports.MEAN_FOR_MIN, case=Case(), **words)


def test_a_default_that_differs_is_found_on_its_line() -> None:
    finding = first(parity.locate(broken_ports.OTHER_DEFAULT, case=Case(), stage='config'))
    assert finding.kind == 'config'
    assert finding.port is not None
    assert finding.port.text.startswith("'expectile'") or finding.port.function == 'get_config'


def test_initial_values_are_found_at_the_line_that_writes_them() -> None:
    found = parity.locate(broken_ports.TORCH_INITIAL_VALUES, case=Case(), stage='params')
    (line,) = found.findings
    assert line.port is not None
    assert line.port.text.startswith('torch.nn.init.uniform_')  # nothing is drawn instead of the reference's
    assert line.is_explained


KERNEL = 'self.weight.copy_(torch.stack(kernels).mT.reshape(self.weight.shape))'


@pytest.mark.parametrize(
    ('wrong', 'text'),
    [
        (Substitution('layers.py', KERNEL, 'self.weight.fill_(0.5)'), 'self.weight.fill_(0.5)'),
        # what nothing writes is found beside what is written
        (Substitution('layers.py', KERNEL, 'pass'), 'self.bias.zero_()'),
    ],
)
def test_initial_values_that_no_change_explains_are_found_where_they_are_written(
    wrong: Substitution, text: str
) -> None:
    with planted('iql', wrong) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params')
    assert first(found).port.text == text


def test_initial_values_that_are_drawn_from_another_key() -> None:
    case = Case(sizes={'B': 3})
    swapped = Substitution('iql.py', 'rng, init_rng = random.split(rng)', 'init_rng, rng = random.split(rng)')
    with planted('iql', swapped) as made:
        finding = first(parity.locate(made.pair, case=case, stage='params'))
    assert finding.port is not None
    assert finding.port.text == swapped.new
    assert finding.cause is not None
    assert finding.cause.name == 'order of names'


def test_a_layer_of_another_size_is_found_where_it_is_asked_for() -> None:
    """With the reference's parameters, which do not fit, the port computes nothing."""
    wrong = Substitution(
        'iql.py',
        "value_def = Value(\n            hidden_dims=config['value_hidden_dims']",
        "value_def = Value(\n            hidden_dims=config['actor_hidden_dims']",
    )
    with planted('iql', wrong) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='loss')
        verdict = parity.check(made.pair, cases=[Case(sizes={'B': 3})], stages=['params'])
    assert {stage.worst.kind for _, stage in verdict.stages() if stage.worst} == {'shape'}
    finding = first(found)
    assert [stage.stage for stage in found.stages] == ['params']
    assert finding.port is not None
    assert finding.reference is not None
    assert finding.port.text == "hidden_dims=config['actor_hidden_dims'],"
    assert finding.reference.text == "hidden_dims=config['value_hidden_dims'],"
    assert found.explained


def test_a_parameter_more_is_found_at_the_setting_that_asks_for_it() -> None:
    """What the reference has is right by itself, so that any change of a line leaves nothing that differs."""
    wrong = Substitution('networks.py', 'state_dependent_std=False,', 'state_dependent_std=True,')
    with planted('iql', wrong) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params')
    assert {leaf.kind for leaf in found.stages[0].leaves} == {'unexpected path'}
    port = first(found).port
    assert port is not None
    assert port.text == wrong.new
    assert not any(finding.is_explained for finding in found.findings)


def test_other_initial_values_of_the_right_shape_do_not_hide_the_loss() -> None:
    """The twin."""
    with planted('iql', Substitution('layers.py', 'torch.float32, -1.0', 'torch.float32, -0.9')) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='loss')
    assert found.outcome == 'match'


def test_a_target_whose_copy_is_missing_is_found_where_it_was_made() -> None:
    gone = Substitution('infom.py', 'network = network.copy_params(online, target)', 'pass')
    with planted('infom', gone) as made:
        finding = first(parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params'))
    assert said(finding)[1:] == ('pass', 'target not started as a copy')
    assert finding.reference is not None
    assert finding.reference.text == 'network = network.copy_params(online, target)'


def test_another_default_is_found_though_the_port_raises() -> None:
    wrong = Substitution('networks.py', 'is_phi=False, info=False', 'is_phi=False, info=True')
    with planted('hilp', wrong) as made:
        finding = first(parity.locate(made.pair, case=Case(sizes={'B': 3})))
    assert finding.port is not None
    assert 'info=True' in finding.port.text
    assert finding.why == 'the default of info is True, in the reference False'


SCALES = {
    'torch.float32, -1.0) * float(': ('torch.float32, -1.0) / float(', 'surplus term'),
    'float(np.sqrt(np.float32(3) * variance))': ('float(np.float32(3) * variance)', 'missing term'),
}


@pytest.mark.slow
@pytest.mark.parametrize('text', SCALES)
def test_initial_values_of_another_scale(text: str) -> None:
    """The line that scales what was drawn: right but for a factor, it is no other key."""
    wrong, cause = SCALES[text]
    with planted('iql', Substitution('layers.py', text, wrong)) as made:
        finding = first(parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params'))
    assert finding.port is not None
    assert wrong in finding.port.text
    assert finding.cause is not None
    assert finding.cause.name == cause


@pytest.mark.slow
@pytest.mark.parametrize(
    ('wrong', 'place'),
    [('(fan_in**2 + 3 * fan_out) / 4', 1), ('(fan_in + fan_out) / 2', None)],
)
def test_a_scale_of_each_shape_is_looked_for_where_the_shape_is_read(wrong: str, place: int | None) -> None:
    """No change of one expression says what the fan was; the twin is as it should be."""
    old = "fan_in if mode == 'fan_in' else (fan_in + fan_out) / 2"
    with planted('iql', Substitution('layers.py', old, wrong)) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params')
    texts = [finding.port.text for finding in found.findings if finding.port]
    assert (texts.index(f'fan = {wrong}') if texts else None) == place


@pytest.mark.slow
def test_the_number_that_an_initialiser_is_asked_for_is_named_beside_what_scales_by_it() -> None:
    """It draws long after it was asked for, and what asked is on no way to the draw."""
    asked = Substitution('encoders.py', "variance_scaling(2.0, 'fan_in'", "variance_scaling(4.0, 'fan_in'")
    case = Case(sizes={'B': 5, 'A': 3, 'H': 12, 'W': 9}, config={'encoder': 'resnet_34'})
    with planted('iql_images', asked) as made:
        found = parity.locate(made.pair, case=case, stage='params')
    texts = [finding.port.text for finding in found.findings if finding.port and finding.is_explained]
    assert len(texts) == 2
    assert any(asked.new in text for text in texts)


def test_two_lines_that_explain_alike_are_both_named() -> None:
    """Inside the bounds, what clips is right with either: another bound, or no passing at all."""
    bound = Substitution(
        'layers.py', 'heaviside(x.detach() - low, half)', 'heaviside(x.detach() - high, half)'
    )
    with planted('iql', bound) as made:
        one, other, *_ = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='loss').findings
    assert said(one)[1].startswith('return torch.lerp(')
    assert bound.new in said(other)[1]
    assert other.why.startswith('explains as much as line ')
    assert one.is_explained
    assert other.is_explained


@pytest.mark.slow
@pytest.mark.parametrize(
    ('pair', 'stage', 'file', 'right', 'wrong', 'text'),
    [
        (  # a change of the line that calls it would explain as much, by calling another
            'iql',
            'actions',
            'layers.py',
            'torch.lerp(torch.minimum(',
            'torch.lerp(torch.maximum(',
            'return torch.lerp(torch.maximum(',
        ),
        (  # gradients part at every line that reads a network frozen
            'iql',
            'grads',
            'train_state.py',
            'param.detach() if params is None',
            'param if params is None',
            'owner[key] = param if params is None',
        ),
        (  # what should have been written was given to the function, and is not what is there after it
            'dino_rebrac',
            'update',
            'train_state.py',
            'param.data.copy_(value)\n            return self',
            'return self',
            'return self',
        ),
    ],
)
def test_what_shows_elsewhere_is_found_in_the_function_that_is_wrong(
    pair: str, stage: str, file: str, right: str, wrong: str, text: str
) -> None:
    with planted(pair, Substitution(file, right, wrong)) as made:
        finding = first(parity.locate(made.pair, case=Case(sizes={'B': 3}), stage=stage))
    assert finding.is_explained
    assert finding.port is not None
    assert finding.port.text.startswith(text)


def test_twin_a_cause_that_is_found_at_once_stands_alone() -> None:
    with planted('iql', Substitution('layers.py', "F.gelu(x, approximate='tanh')", 'F.gelu(x)')) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='loss')
    assert said(first(found))[2] == 'gelu variant'
    assert not any(finding.why.startswith('explains as much') for finding in found.findings)


def test_two_keys_that_are_taken_for_each_other_are_one_change() -> None:
    """Each of two lines explains its own part, and the line that sets both names all of it."""
    swapped = Substitution(
        'infom.py', 'rng, time_rng, current_rng, future_rng', 'rng, current_rng, time_rng, future_rng'
    )
    with planted('infom', swapped) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='loss')
    _, text, cause = said(first(found))
    assert text.startswith(swapped.new)
    assert cause == 'order of names'
    assert all(
        finding.port.function.startswith('InFOMAgent.') for finding in found.findings[:3] if finding.port
    )


def test_a_branch_that_is_never_taken_is_named_beside_what_it_looks_like() -> None:
    """A centre that rests moves as a parameter of no gradient, or of another one."""
    never = Substitution(
        'dino_rebrac.py', 'if full_update:\n            network', 'if False:\n            network'
    )
    with planted('dino_rebrac', never) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='update')
    assert said(first(found))[2] == 'parameter not set after the step'
    assert 'if False:' in [finding.port.text for finding in found.findings[:3] if finding.port]


def test_what_is_right_but_for_its_dtype_is_no_target_that_was_not_copied() -> None:
    with planted(
        'iql', Substitution('train_state.py', 'self.to(device=device, dtype=dtype)', 'self.to(device=device)')
    ) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}), stage='params')
    assert {leaf.kind for leaf in found.stages[0].leaves} == {'dtype'}
    assert found.findings
    assert not any(finding.is_explained for finding in found.findings)


def test_a_target_that_does_not_start_as_a_copy_is_said_to() -> None:
    finding = first(parity.locate(broken_ports.TARGET_OF_ITS_OWN, case=Case(), stage='params'))
    kind, text, cause = said(finding)
    assert (kind, cause) == ('module', 'target not started as a copy')
    assert text.startswith('def create(')
    assert finding.cause is not None
    assert finding.cause.description == 'modules_target_critic = modules_critic'
    assert all(path.startswith('modules_target_critic/') for path in finding.parameters)


def test_twin_zeros_are_nobodys_copies() -> None:
    """Biases that do not start with zeros, of which the reference has the same in every network."""
    found = parity.locate(broken_ports.BIASES_OF_ONE, case=Case(), stage='params')
    names = [finding.cause.name for finding in found.findings if finding.cause]
    assert 'target not started as a copy' not in names


def test_a_port_that_raises_has_its_line() -> None:
    finding = first(parity.locate(broken_ports.RAISING, case=Case(), stage='loss'))
    assert finding.kind == 'error'
    assert finding.loss == 'finetuning_full'
    assert finding.port is not None
    assert finding.port.text == "raise NotImplementedError('not ported yet')"


def test_a_port_that_cannot_be_made_has_the_line_that_is_unlike_and_the_one_that_raises() -> None:
    wrong = Substitution(
        'iql.py', 'TrainState.create(networks, init_rng,', 'TrainState.create(networks, seed,'
    )
    with planted('iql', wrong) as made:
        found = parity.locate(made.pair, case=Case(sizes={'B': 3}))
    cause, raising = found.findings
    assert cause.port is not None
    assert cause.reference is not None
    assert (cause.port.file.rsplit('/')[-1], cause.port.line) in made.lines
    assert 'init_rng' in cause.reference.text
    assert cause.is_explained
    assert raising.kind == 'error'
    assert 'expected one key' in raising.why


@pytest.mark.slow
def test_a_leak_is_a_cotangent_with_its_cells() -> None:
    found = parity.locate(broken_ports.LEAKY_TARGET, case=Case(seed=1))
    kind, _, cause = said(first(found))
    assert (kind, cause) == ('cotangent', 'frozen or trained network')
    differing = {(cell.term, cell.network) for cell in found.reach if cell.differs}
    assert differing == {('value/value_loss', 'modules_target_critic')}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('pair', 'cause', 'line'),
    [
        ('TARGET_AFTER_STEP', 'target from the values after the step', 'self.moving_average('),
        ('NONE_FOR_ZERO', 'parameter without gradient skipped', ''),
    ],
)
def test_an_update_is_found_where_it_writes(pair: str, cause: str, line: str) -> None:
    found = parity.locate(getattr(broken_ports, pair), case=Case(seed=1), stage='update')
    kind, text, name = said(first(found))
    assert (kind, name) == ('update', cause)
    assert line in text
    assert found.updates


@pytest.mark.slow
def test_actions_are_found_where_they_are_sampled() -> None:
    found = parity.locate(broken_ports.NO_TEMPERATURE, case=Case(seed=1), stage='actions')
    texts = [finding.port.text for finding in found.findings if finding.port]
    assert 'return super().sample_actions(observations, seed=seed)' in texts


@pytest.mark.slow
def test_without_a_case_the_first_that_differs_is_used() -> None:
    found = parity.locate(model_pairs.NNX_VARIANCE)
    assert found.case == 'seed 0 plain values'
    assert {stage.stage for stage in found.stages} == {'update'}
    assert found.findings[0].port is not None
    assert found.findings[0].port.text == 'return self.layers(x)'  # where the running variance is written
