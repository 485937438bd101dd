"""GPTQ by hand on two columns, against the definition on more, and against rounding to the nearest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.compress.descent import Packed, descended, refitted
from headwater.compress.gptq import DAMPING, MADE_UP, compensated, eliminated, gptq
from headwater.compress.inputs import Inputs
from headwater.compress.scales import searched
from headwater.errors import InputError
from headwater.model.int4 import apart, joined, nearest


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(columns, seed, tokens=400):
    """Correlated, and of different sizes."""
    mixed = drawn(tokens, columns, seed=seed) @ drawn(columns, columns, seed=seed + 1) / columns**0.5
    return mixed * (1 + 3 * drawn(columns, seed=2).abs())


def restored(codes, scale, zero, group):
    return ((apart(codes).unflatten(1, (-1, group)) - zero[..., None].float()) * scale[..., None].float()).flatten(1)


def loss(weight, found, x):
    return float(((weight - found) @ x.T).square().sum())


def plain(weight, group, symmetric=False):
    scale, zero = searched(weight, group, symmetric=symmetric)
    return restored(joined(nearest(weight, scale, zero)), scale, zero, group)


def reference(weight, hessian, group):
    """Equations 2 and 3 of the paper column by column, with the inverse itself: after each column its row and column
    leave the inverse by elimination. In float64."""
    hessian = hessian.double() + DAMPING * hessian.double().diagonal().mean() * torch.eye(len(hessian))
    work, inverse = weight.double().clone(), torch.linalg.inv(hessian)
    found = torch.empty_like(work)
    for column in range(work.shape[1]):
        if column % group == 0:
            scale, zero = searched(work[:, column : column + group].float(), group, symmetric=False)
        code = nearest(work[:, column : column + 1], scale, zero)
        found[:, column : column + 1] = (code.double() - zero) * scale
        error = (work[:, column] - found[:, column]) / inverse[column, column]
        work[:, column:] -= error[:, None] * inverse[column, column:]
        inverse = inverse - inverse[:, column : column + 1] @ inverse[column : column + 1] / inverse[column, column]
    return found


def test_it_is_the_papers_elimination():
    """Over a block of columns and past it, so that errors cross."""
    weight, x = drawn(5, 160), inputs(160, 3)
    hessian = 2 * x.T @ x
    found = eliminated(weight, hessian, 32, symmetric=False, act_order=False).matrix
    wanted = reference(weight, hessian, 32)
    assert (found - wanted).abs().gt(1e-4).float().mean() < 0.02  # a tie may fall to either side in float32
    assert loss(weight, found, x) == pytest.approx(loss(weight, wanted.float(), x), rel=0.02)


@given(seed=st.integers(0, 50), group=st.sampled_from([32, 64]), symmetric=st.booleans(), act_order=st.booleans())
def test_outputs_change_less_than_by_rounding_each_weight(seed, group, symmetric, act_order):
    weight, x = drawn(8, 64, seed=seed), inputs(64, seed + 100)
    found = restored(*gptq(weight, 2 * x.T @ x, group, symmetric=symmetric, act_order=act_order), group)
    assert loss(weight, found, x) < loss(weight, plain(weight, group, symmetric), x)


@pytest.mark.parametrize("act_order", [False, True])
def test_inputs_without_correlation_leave_the_nearest(act_order):
    """There is nothing to make up for: the inverse is diagonal."""
    weight = drawn(6, 64)
    found = eliminated(weight, 3 * torch.eye(64), 32, symmetric=False, act_order=act_order).matrix
    torch.testing.assert_close(found, plain(weight, 32))


@given(seed=st.integers(0, 50), group=st.sampled_from([32, 64]), symmetric=st.booleans())
def test_neither_scales_nor_codes_looked_at_again_change_outputs_more(seed, group, symmetric):
    weight, x = drawn(8, 192, seed=seed), inputs(192, seed + 100)
    scale, zero = searched(weight, group, symmetric=symmetric)
    packed, hessian = Packed(nearest(weight, scale, zero), scale, zero), 2 * x.T @ x
    before = loss(weight, packed.matrix, x)
    for again in (refitted, descended, refitted):
        packed = again(weight, hessian, packed)
        assert loss(weight, packed.matrix, x) <= before * (1 + 1e-4)
        before = loss(weight, packed.matrix, x)
    assert before < 0.9 * loss(weight, plain(weight, group, symmetric), x)


def test_scales_are_those_of_least_squares():
    """One row, from its two columns of steps, by another solver."""
    weight, x = drawn(1, 64), inputs(64, 5)
    scale, zero = searched(weight, 32, symmetric=True)
    packed = Packed(nearest(weight, scale, zero), scale, zero)
    columns = torch.stack([x[:, :32] @ packed.steps[0, :32], x[:, 32:] @ packed.steps[0, 32:]], 1)
    wanted = torch.linalg.lstsq(columns, x @ weight.T).solution[:, 0]
    found = refitted(weight, 2 * x.T @ x, packed).scale[0]
    torch.testing.assert_close(found.float(), wanted, rtol=2e-3, atol=0)


def test_no_code_alone_can_be_changed_for_the_better():
    weight, x = drawn(2, 32), inputs(32, 9)
    scale, zero = searched(weight, 32, symmetric=False)
    packed = Packed(nearest(weight, scale, zero), scale, zero)
    for _ in range(20):
        packed = descended(weight, 2 * x.T @ x, packed)
    least = loss(weight, packed.matrix, x)
    for row, column in [(row, column) for row in range(2) for column in range(32)]:
        for code in {max(0, int(packed.codes[row, column]) - 1), min(15, int(packed.codes[row, column]) + 1)}:
            codes = packed.codes.clone()
            codes[row, column] = code
            assert loss(weight, packed._replace(codes=codes).matrix, x) >= least * (1 - 1e-5)


def test_what_drifted_before_a_layer_is_half_made_up_for():
    """Of inputs twice as large as the float model's, all outputs would be right with half the weights."""
    weight, x, own = drawn(3, 8), drawn(5000, 8, seed=1), Inputs(8, torch.device("cpu"))
    own.add(2 * x, x)
    torch.testing.assert_close(compensated(weight, own), weight * (1 - MADE_UP / 2), rtol=0.02, atol=0.01)
    own = Inputs(8, torch.device("cpu"))
    own.add(x)
    assert compensated(weight, own) is weight


def test_columns_that_no_input_reaches_become_nought():
    weight, x = drawn(3, 32), inputs(32, 7)
    x[:, 5] = 0
    found = restored(*gptq(weight, 2 * x.T @ x, 32, symmetric=False, act_order=False), 32)
    assert not found[:, 5].any()


def test_inputs_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        gptq(drawn(3, 32), torch.full((32, 32), float("nan")), 32, symmetric=False, act_order=False)
