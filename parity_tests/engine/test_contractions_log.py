"""Contractions are logged in order, with their equations; the module is always as before afterwards."""

from types import SimpleNamespace

import numpy as np

from parity.contractions import logged_contractions


def module() -> SimpleNamespace:
    return SimpleNamespace(einsum=np.einsum, matmul=np.matmul)


def test_results_are_logged_in_order() -> None:
    numpy = module()
    x = np.arange(6.0).reshape(2, 3)
    with logged_contractions(numpy, ('einsum', 'matmul')) as log:
        gram = numpy.matmul(x, x.T)
        numpy.einsum('ij->j', x)
    assert list(log) == ['0 matmul', '1 einsum ij->j']
    assert log['0 matmul'] is gram
    assert np.array_equal(log['1 einsum ij->j'], x.sum(axis=0))


def test_only_what_is_named_is_logged_and_only_inside() -> None:
    numpy = module()
    with logged_contractions(numpy, ('einsum', 'tensordot')) as log:
        numpy.matmul(np.eye(2), np.eye(2))
    numpy.einsum('ij->j', np.eye(2))
    assert log == {}
    assert (numpy.einsum, numpy.matmul) == (np.einsum, np.matmul)
