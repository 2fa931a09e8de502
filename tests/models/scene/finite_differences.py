"""Gradients beside central differences, in float32."""

import jax
import numpy as np

from alpamayo_jax.testing.tiny import quick_jit


def assert_gradients(loss, arguments, step: float = 2e-2, tolerance: float = 2e-2) -> None:
    """Compares the slope of `loss(*arguments)` along a random direction of every leaf.

    A direction has unit length. Slopes agree to `tolerance` of themselves and of the largest.
    """
    value = quick_jit(loss)
    leaves, tree = jax.tree.flatten(arguments)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(arguments)]
    gradients = quick_jit(jax.grad(lambda args: loss(*args)))(arguments)
    slopes = [np.asarray(slope, np.float64) for slope in jax.tree.leaves(gradients)]
    rng = np.random.default_rng(0)
    got, want = [], []
    for i, (leaf, slope) in enumerate(zip(leaves, slopes)):
        # Half along the gradient, so that what is measured stands out of the rounding.
        direction = rng.standard_normal(leaf.shape)
        direction /= np.linalg.norm(direction)
        direction += slope / (np.linalg.norm(slope) + 1e-12)
        direction /= np.linalg.norm(direction)

        def moved(size):
            changed = leaf + np.asarray(size * direction, leaf.dtype)
            return float(value(*jax.tree.unflatten(tree, [*leaves[:i], changed, *leaves[i + 1 :]])))

        # Two step lengths: the error of fourth order.
        one, two = ((moved(s) - moved(-s)) / (2 * s) for s in (step, 2 * step))
        want.append((4 * one - two) / 3)
        got.append(float((slope * direction).sum()))
    largest = max(map(abs, want))
    assert largest > 1e-4
    for path, a, b in zip(paths, got, want):
        assert abs(a - b) <= tolerance * (abs(b) + 0.02 * largest), (path, a, b)
