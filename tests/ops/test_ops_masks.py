from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import masks


class MasksTest(parameterized.TestCase):
    def test_causal_with_left_padding(self):
        got = masks.causal_mask(jnp.array([[False, True, True], [True, True, True]]))
        assert got.astype(int).tolist() == [
            [[0, 0, 0], [0, 1, 0], [0, 1, 1]],
            [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        ]

    def test_a_hole_is_hidden_from_everyone_after_it(self):
        got = masks.causal_mask(jnp.array([[True, False, True]]))
        assert got[0].astype(int).tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]

    @parameterized.parameters(((),), ((2, 1),))
    def test_prefix(self, batch):
        lengths = np.full(batch, 2)
        got = masks.prefix_mask(jnp.asarray(lengths), 4)
        assert got.shape == (*batch, 4) and got.dtype == bool
        np.testing.assert_array_equal(got, np.broadcast_to([1, 1, 0, 0], (*batch, 4)))

    def test_prefix_edges(self):
        got = masks.prefix_mask(jnp.array([0, 3, 9]), 3)
        assert got.astype(int).tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
