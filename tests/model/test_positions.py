import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.model.positions import alibi_bias, alibi_slopes, rope_frequencies, rope_tables, rotate

HALF = {"layout": "half", "scale": 1.0}


@pytest.mark.parametrize(("heads", "place", "slope"), [
    (8, 0, 0.5), (8, 7, 1 / 256), (32, 31, 0.00390625), (40, 0, 2**-0.25), (40, 31, 0.00390625), (40, 32, 2**-0.125),
    (40, 39, 2 ** (-0.125 * 15))])
def test_published_alibi_slopes(heads, place, slope):
    slopes = alibi_slopes(heads)
    assert len(slopes) == heads
    assert float(slopes[place]) == pytest.approx(slope, rel=1e-6)


def test_alibi_depends_on_distance_alone():
    slopes, here = alibi_slopes(4), torch.arange(6)[None]
    assert torch.equal(alibi_bias(slopes, here, here), alibi_bias(slopes, here + 100, here + 100))
    assert float(alibi_bias(slopes, here, here)[0, 1, 5, 2]) == pytest.approx(-3 * 2**-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 500))
def test_rotated_products_depend_on_the_offset_alone(query, key, shift):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 1, 1, 16, generator=generator), torch.randn(1, 1, 1, 16, generator=generator)
    frequencies = rope_frequencies(16, 10000.0)

    def product(i, j):
        tables = [rope_tables(torch.tensor([[[place]]]), frequencies, **HALF) for place in (i, j)]
        return float((rotate(q, *tables[0], "half") * rotate(k, *tables[1], "half")).sum())

    assert product(query, key) == pytest.approx(product(query + shift, key + shift), abs=2e-2)


def test_positions_do_not_collide_in_half_precision():
    positions = torch.arange(4096)[None]
    cos, sin = rope_tables(positions, rope_frequencies(8, 10000.0).bfloat16(), **HALF)
    assert cos.dtype == torch.float32
    assert len({(float(c), float(s)) for c, s in zip(cos[0, :, -1], sin[0, :, -1])}) == 4096


def test_rotation_matches_complex_multiplication():
    x, positions = torch.randn(1, 1, 5, 8), torch.arange(5)[None]
    angles = positions[0, :, None] * rope_frequencies(8, 100.0)
    pairs = torch.complex(x[0, 0, :, :4].double(), x[0, 0, :, 4:].double())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    found = rotate(x, *rope_tables(positions[:, None], rope_frequencies(8, 100.0), **HALF), "half")[0, 0]
    torch.testing.assert_close(found.double(), torch.cat([turned.real, turned.imag], -1), atol=1e-5, rtol=1e-5)
