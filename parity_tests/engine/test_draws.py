"""Draws are logged in order, with kind, shape and key; the module is always as before afterwards."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from parity.draws import FLOATING, KINDS, chosen_draws, draw_leaves, logged_draws

KEY = np.array([1, 2], np.uint32)


def normal(key: np.ndarray, shape: tuple = (), dtype: str = 'float64') -> np.ndarray:
    """A draw like jax's: other numbers in each precision."""
    return np.random.default_rng([*key, np.dtype(dtype).itemsize]).normal(size=shape).astype(dtype)


def permutation(key: np.ndarray, x: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(x)


def random() -> SimpleNamespace:
    def uniform(
        key: np.ndarray, shape: tuple = (), dtype: str = 'float64', minval: float = 0.0
    ) -> np.ndarray:
        return normal(key, shape, dtype) + np.dtype(dtype).type(minval)

    def bits(key: np.ndarray, shape: tuple = (), dtype: str = 'uint32') -> np.ndarray:
        return np.zeros(shape, dtype)

    return SimpleNamespace(normal=normal, uniform=uniform, bits=bits, permutation=permutation)


def test_draws_are_logged_in_order() -> None:
    module = random()
    with logged_draws(module) as log:
        first = module.normal(KEY, (8, 5))
        module.permutation(KEY + 1, 3)
        module.uniform(KEY + 2, minval=1.0)
        module.bits(KEY + 3, shape=(2,))
    assert [kind for kind, _, _ in log] == ['normal', 'permutation', 'uniform', 'bits']
    assert [key[0] for _, key, _ in log] == [1, 2, 3, 4]
    assert log[0][2] is first


def test_twin_nothing_is_logged_outside() -> None:
    module = random()
    with logged_draws(module) as log:
        pass
    module.normal(KEY)
    assert log == []


def test_logging_changes_no_number() -> None:
    module = random()
    with logged_draws(module):
        inside = module.normal(KEY, (3,))
    assert np.array_equal(inside, normal(KEY, (3,)))
    assert inside.dtype == np.float64


def test_a_key_given_by_name_is_logged() -> None:
    module = random()
    with logged_draws(module) as log:
        module.normal(key=KEY, shape=(2,))
    assert log[0][1] is KEY


def narrow_draws(module: SimpleNamespace) -> contextlib.AbstractContextManager[None]:
    return chosen_draws(module, 'float32', lambda narrow, asked: narrow)


def test_a_draw_within_a_draw_is_a_part_of_it() -> None:
    module = random()
    module.permutation = lambda key, x: module.bits(key, (x,)).argsort()
    with logged_draws(module) as log:
        module.permutation(KEY, 3)
        module.bits(KEY + 1)
    assert [(kind, key[0]) for kind, key, _ in log] == [('permutation', 1), ('bits', 2)]


@pytest.mark.parametrize(('replaced', 'kinds'), [(logged_draws, KINDS), (narrow_draws, FLOATING)])
def test_the_originals_come_back(replaced: Callable, kinds: tuple[str, ...]) -> None:
    module = random()
    before = dict(vars(module))
    with replaced(module):
        assert {kind for kind in KINDS if getattr(module, kind) is not before[kind]} == set(kinds)
    assert vars(module) == before


def test_the_originals_come_back_after_an_exception() -> None:
    module = random()
    before = dict(vars(module))
    with pytest.raises(TypeError, match='KEY'), narrow_draws(module), logged_draws(module):
        module.permutation('KEY', 3)
    assert vars(module) == before


def test_logs_and_choices_can_be_nested() -> None:
    module = random()
    before = dict(vars(module))
    with narrow_draws(module), logged_draws(module) as outer:
        with logged_draws(module) as inner:
            drawn = module.normal(KEY, (2,))
        module.normal(KEY)
    assert (len(outer), len(inner)) == (2, 1)
    assert np.array_equal(drawn, normal(KEY, (2,), 'float32'))
    assert vars(module) == before


def test_without_a_module_there_are_no_draws() -> None:
    with logged_draws(None) as log:
        pass
    assert log == []


@pytest.mark.parametrize('kind', FLOATING)
def test_either_precision_can_be_chosen(kind: str) -> None:
    module = random()
    narrow, wide = (getattr(module, kind)(KEY, (4,), dtype) for dtype in ('float32', 'float64'))
    for chosen, expected in ((0, narrow), (1, wide)):
        with chosen_draws(module, 'float32', lambda *both, i=chosen: both[i]):
            drawn = getattr(module, kind)(KEY, shape=(4,))
        assert drawn.dtype == np.float64
        assert np.array_equal(drawn, expected)
    assert not np.array_equal(narrow, wide)  # twin


def test_choosing_passes_the_other_arguments_on() -> None:
    module = random()
    with narrow_draws(module):
        drawn = module.uniform(KEY, (2,), minval=3.0)
    assert np.array_equal(drawn, random().uniform(KEY, (2,), 'float32', 3.0))


def test_whole_numbers_are_not_chosen() -> None:
    module = random()
    with narrow_draws(module):
        assert module.permutation(KEY, 4).dtype == np.int64
        assert module.bits(KEY, (4,)).dtype == np.uint32


def test_names_say_what_was_drawn() -> None:
    keys = [KEY + i for i in range(3)]
    log = [
        ('normal', keys[0], np.zeros((8, 5))),
        ('uniform', keys[1], np.zeros(())),
        ('normal', keys[2], np.zeros(3)),
    ]
    leaves = draw_leaves(log)
    assert list(leaves) == ['0 normal[8,5]', '1 uniform[]', '2 normal[3]']
    assert all(found is key for found, key in zip(leaves.values(), keys, strict=True))


@pytest.mark.parametrize('change', ['order', 'shape', 'kind', 'count'])
def test_twin_other_draws_have_other_names(change: str) -> None:
    log = [('normal', KEY, np.zeros(3)), ('uniform', KEY, np.zeros(3))]
    changed = {
        'order': log[::-1],
        'shape': [('normal', KEY, np.zeros(4)), log[1]],
        'kind': [('uniform', KEY, np.zeros(3)), log[1]],
        'count': log[:1],
    }
    assert draw_leaves(changed[change]).keys() != draw_leaves(log).keys()


def test_a_module_without_one_of_the_kinds_can_be_logged() -> None:
    module = SimpleNamespace(normal=normal)
    with logged_draws(module) as log:
        module.normal(KEY)
    assert len(log) == 1
    assert vars(module) == {'normal': normal}
