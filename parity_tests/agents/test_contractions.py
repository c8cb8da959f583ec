"""The contractions: a layer of an ensemble in torch is linen's vmapped layer, as arrays."""

import math

import flax.linen as linen
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import torch
from hypothesis import given

import torch_agents.crl_infonce
from parity import Case, Pair, registered
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from reference_jax.networks import default_init, ensemblize
from torch_agents.layers import Dense, LayerNorm
from torch_agents.networks import default_init as torch_init

DIMENSIONS = st.integers(1, 5)


def reference_outputs(module: linen.Module, x: np.ndarray, params: dict[str, np.ndarray]) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(module.apply({'params': params}, x))


@given(
    members=st.integers(2, 4),
    batch=DIMENSIONS,
    inputs=DIMENSIONS,
    outputs=DIMENSIONS,
    seed=st.integers(0, 99),
)
def test_ensemble_dense_contracts_each_member_with_its_own_kernel(
    members: int, batch: int, inputs: int, outputs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(batch, inputs)), rng.normal(size=(members, inputs, outputs))
    bias = rng.normal(size=(members, outputs))
    module = ensemblize(linen.Dense, members)(outputs, kernel_init=default_init())
    expected = reference_outputs(module, x, {'kernel': kernel, 'bias': bias})
    found = dense_outputs(x, kernel, bias)
    assert found.shape == expected.shape == (members, batch, outputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * inputs * np.abs(expected).max())


def dense_outputs(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    members, _, outputs = kernel.shape
    dense = Dense(outputs, torch_init(), members)
    rows = torch.tensor(x).expand(members, *x.shape)
    with torch.no_grad():
        dense(rows.float())
        dense.double()
        dense.weight.copy_(torch.tensor(kernel).mT)
        dense.bias.copy_(torch.tensor(bias))
        return dense(rows).numpy()


def test_another_members_kernel_fails() -> None:
    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=(3, 4)), rng.normal(size=(2, 4, 4)), np.zeros((2, 4))
    swapped = dense_outputs(x, kernel[::-1].copy(), bias)
    assert np.abs(swapped - dense_outputs(x, kernel, bias)).max() > 0.1
    assert (
        np.abs(dense_outputs(x, kernel.swapaxes(1, 2).copy(), bias) - dense_outputs(x, kernel, bias)).max()
        > 0.1
    )


@given(
    batch=DIMENSIONS, features=DIMENSIONS, scale=st.sampled_from([1e-2, 1.0, 1e2]), seed=st.integers(0, 99)
)
def test_layer_norm(batch: int, features: int, scale: float, seed: int) -> None:
    x = scale * np.random.default_rng(seed).normal(size=(batch, features))
    params = {'scale': np.ones(features), 'bias': np.zeros(features)}
    expected = reference_outputs(linen.LayerNorm(), x, params)
    np.testing.assert_allclose(layer_norm(x), expected, rtol=0, atol=1e-10)


def test_layer_norm_with_torchs_epsilon_fails() -> None:
    x = 0.01 * np.random.default_rng(0).normal(size=(3, 4))
    assert np.abs(layer_norm(x) - layer_norm(x, eps=1e-5)).max() > 1e-3


def layer_norm(x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    module = LayerNorm(eps=eps)
    with torch.no_grad():
        module(torch.tensor(x).float())
        module.double()
        module.init_params(None, [])
        return module(torch.tensor(x)).numpy()


@pytest.mark.parametrize('leading', [(), (2,), (2, 3)])
def test_any_leading_dimensions(leading: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, kernel, bias = rng.normal(size=(*leading, 4)), rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3))
    expected = np.einsum('...i,eio->e...o', x, kernel) + bias.reshape(2, *(1,) * len(leading), 3)
    np.testing.assert_allclose(dense_outputs(x, kernel, bias), expected, rtol=0, atol=1e-13)


# --- the einsum, tensordot and matmul of the losses, as a stage


@pytest.mark.parity_stage('contractions')
def test_contractions_of_the_losses(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'contractions'), share=0.5)


@pytest.mark.xdist_group('crl_infonce')
def test_a_transposed_contraction_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, case = registered()['crl_infonce'], Case(config={'contrastive_loss': 'symmetric_infonce'})
    assert_parity(pair, case, 'contractions')

    def transposed(phi: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        return torch.einsum('eik,ejk->jie', phi, psi) / math.sqrt(phi.shape[-1])

    monkeypatch.setattr(torch_agents.crl_infonce, 'pair_logits', transposed)
    equations = {path.rpartition(' ')[2] for path in differing(pair, case, 'contractions')}
    assert equations == {'eik,ejk->ije', 'eik,ejk->jie'}
    # the symmetric loss itself does not see it
    assert 'pretraining/info/critic/contrastive_loss' not in differing(pair, case, 'loss')
