from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from abx.nn import TextConfig, TextEncoder

KEY = jax.random.key(0)
TINY = TextConfig(vocab=40, length=8, width=16, depth=2, heads=2, mlp=32)


def text(rng, t=8):
    return jnp.asarray(rng.integers(2, 40, t), jnp.int32)


def test_parameters_of_the_papers_size():
    """METHODS §4.3: 12.3 M for the token table, 21.3 M for the blocks."""
    shapes = jax.eval_shape(lambda: TextEncoder(TextConfig(), key=KEY))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree)) / 1e6
    assert count(shapes.table) == pytest.approx(12.3, abs=0.05)
    assert count(shapes.blocks) == pytest.approx(21.3, abs=0.05)
    assert count(shapes) == pytest.approx(12.288 + 21.294 + 64 * 384e-6 + 2 * 384e-6, abs=0.001)


def test_tables_begin_at_the_scale_of_the_residual_stream():
    encoder = TextEncoder(replace(TINY, vocab=2000, length=2000), key=KEY)
    for table in (encoder.table, encoder.pos_embed):
        assert float(table.std()) == pytest.approx(16**-0.5, rel=0.02)
        np.testing.assert_allclose(jnp.linalg.norm(table, axis=-1).mean(), 1, atol=0.05)


def test_causal_tokens_do_not_see_later_ones(rng):
    ids = text(rng)
    changed = ids.at[5].set((ids[5] + 1) % 40)
    for causal in (True, False):
        encoder = TextEncoder(replace(TINY, causal=causal), key=KEY)
        before, after = encoder.encode(ids), encoder.encode(changed)
        same = np.isclose(before, after, atol=1e-6).all(1)
        assert same[:5].all() == same[:5].any() == causal
        assert not same[5:].any()


def test_a_causal_prefix_is_a_shorter_text(rng):
    encoder, ids = TextEncoder(replace(TINY, causal=True), key=KEY), text(rng)
    np.testing.assert_allclose(encoder.encode(ids)[:5], encoder.encode(ids[:5]), atol=1e-5)


def test_order_counts_and_features_are_pooled_tokens(rng):
    ids = text(rng)
    last, gap = (TextEncoder(replace(TINY, pool=pool), key=KEY) for pool in ("last", "gap"))
    np.testing.assert_array_equal(last(ids), last.encode(ids)[-1])
    np.testing.assert_allclose(gap(ids), gap.encode(ids).mean(0), atol=1e-6)
    assert not np.allclose(gap(ids), gap(ids[::-1]), atol=1e-3)


def test_shorter_texts_fit_and_longer_ones_do_not(rng):
    encoder = TextEncoder(TINY, key=KEY)
    assert encoder(text(rng, 1)).shape == (16,)
    with pytest.raises(ValueError, match="has 9 tokens, and the text tower positions for 8"):
        jax.eval_shape(encoder, text(rng, 9))


def test_only_the_tokens_of_the_text_are_trained(rng):
    ids = jnp.array([3, 7, 7, 1], jnp.int32)
    gradient = jax.grad(lambda e: jnp.square(e(ids)).sum())(TextEncoder(TINY, key=KEY))
    assert set(np.flatnonzero(jnp.abs(gradient.table).max(1))) == {1, 3, 7}
    assert set(np.flatnonzero(jnp.abs(gradient.pos_embed).max(1))) == {0, 1, 2, 3}


def test_bf16_policy(rng):
    ids, plain = text(rng), TextEncoder(TINY, key=KEY)
    half = TextEncoder(replace(TINY, dtype="bfloat16", pool="gap", causal=True), key=KEY)
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    assert half(ids).dtype == jnp.bfloat16
    rounded = TextEncoder(replace(TINY, dtype="bfloat16"), key=KEY)(ids).astype(jnp.float32)
    np.testing.assert_allclose(rounded, plain(ids), atol=0.1)


def test_config_names_its_mistakes():
    assert TextConfig(vocab=0, depth=-1).problems() == [
        "text.vocab must be at least 1, not 0",
        "text.depth must be at least 1, not -1",
    ]
    with pytest.raises(ValueError, match=r"text\.heads must divide the width, 16, which 3 does not"):
        TextEncoder(replace(TINY, heads=3), key=KEY)
