"""Volume rendering against what can be computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops.volume import composite, ray_distances, sample_plane


def test_samples_at_centres_are_the_cells():
    plane = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 2)), jnp.float32)
    i, j = np.meshgrid(np.arange(3), np.arange(4), indexing="ij")
    at = jnp.asarray(np.stack([i, j], -1).reshape(-1, 2) + 0.5, jnp.float32)
    np.testing.assert_allclose(sample_plane(plane, at), plane.reshape(-1, 2), atol=1e-6)


def test_samples_between_centres_are_linear_and_the_border_repeats():
    plane = jnp.arange(6.0).reshape(2, 3, 1)
    at = jnp.asarray([[1.0, 1.0], [0.75, 2.0], [-5.0, 0.0], [9.0, 9.0]])
    np.testing.assert_allclose(sample_plane(plane, at)[:, 0], [2.0, 2.25, 0.0, 5.0], atol=1e-6)


def test_a_uniform_fog_is_the_exponential_law():
    edges = np.linspace(0.0, 20.0, 201).astype(np.float32)
    density = jnp.full(200, 0.1)
    colour, depth, weights = composite(density, jnp.ones((200, 3)), edges)
    np.testing.assert_allclose(colour, np.ones(3), rtol=1e-5)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-5)
    # Mean free path, with what is left put at the end.
    np.testing.assert_allclose(depth, 10 * (1 - np.exp(-2.0)), rtol=1e-2)


def test_an_opaque_wall_hides_what_is_behind():
    edges = ray_distances(10, 100.0)
    density = jnp.zeros(10).at[4].set(1e4).at[7].set(1e4)
    colours = jnp.zeros((10, 3)).at[4, 0].set(1.0).at[7, 1].set(1.0)
    colour, depth, _ = composite(density, colours, edges)
    np.testing.assert_allclose(colour, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(depth, (edges[4] + edges[5]) / 2, rtol=1e-5)


def test_empty_rays_end_at_the_last_interval():
    edges = ray_distances(6, 50.0)
    _, depth, weights = composite(jnp.zeros((2, 6)), jnp.zeros((2, 6, 3)), edges)
    np.testing.assert_allclose(weights[:, -1], [1, 1])
    np.testing.assert_allclose(depth, (edges[-1] + edges[-2]) / 2)


def test_gradients_agree_with_finite_differences():
    rng = np.random.default_rng(1)
    density, colours = rng.uniform(0, 1, 8), rng.uniform(0, 1, (8, 3))
    edges = ray_distances(8, 20.0)

    def loss(density):
        colour, depth, _ = composite(density, jnp.asarray(colours), edges)
        return colour.sum() + 0.1 * depth

    slope = jax.grad(loss)(jnp.asarray(density))
    for i in range(8):
        moved = [loss(jnp.asarray(density).at[i].add(s)) for s in (1e-2, -1e-2)]
        measured = float(moved[0] - moved[1]) / 2e-2
        assert float(slope[i]) == pytest.approx(measured, rel=2e-2, abs=2e-3)


def test_intervals_grow():
    edges = ray_distances(12, 80.0)
    assert edges.shape == (13,) and edges[-1] == pytest.approx(80.0)
    assert (np.diff(np.diff(edges)) > 0).all()
