from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops import rope


def _positions(shape=(2, 6), seed=0):
    return np.random.default_rng(seed).integers(0, 3000, (3, *shape)).astype(np.int32)


class TableTest(parameterized.TestCase):
    def test_release_interleaving(self):
        axes = rope.mrope_axes(128, (24, 20, 20))
        assert axes[:60].tolist() == [0, 1, 2] * 20
        assert axes[60:].tolist() == [0] * 4

    @parameterized.parameters(
        (16, (4, 2, 2), [0, 1, 2, 0, 1, 2, 0, 0]),
        (32, (6, 5, 5), [0, 1, 2] * 5 + [0]),
        (16, (2, 3, 3), [0, 1, 2, 0, 1, 2, 0, 1]),  # a section longer than the table has room for
        (16, (8, 0, 0), [0] * 8),
        (16, (4, 3, 1), [0, 1, 2, 0, 1, 0, 0, 1]),
    )
    def test_small_interleaving(self, head_dim, section, want):
        assert rope.mrope_axes(head_dim, section).tolist() == want

    @parameterized.parameters(((),), ((2, 1),))
    def test_each_frequency_reads_its_axis(self, batch):
        positions = _positions((*batch, 5))
        cos, sin = rope.mrope_table(positions, 16, (4, 2, 2), 5e6)
        assert cos.shape == sin.shape == (*batch, 5, 16) and cos.dtype == jnp.float32
        for i, axis in enumerate((0, 1, 2, 0, 1, 2, 0, 0)):
            angle = positions[axis] * np.float64(5e6) ** (-2 * i / 16)
            for column in (i, i + 8):
                np.testing.assert_allclose(cos[..., column], np.cos(angle), atol=4e-4)
                np.testing.assert_allclose(sin[..., column], np.sin(angle), atol=4e-4)

    def test_equal_axes_are_plain_rotary_positions(self):
        plain = np.arange(40)
        positions = np.broadcast_to(plain, (3, 40))
        cos, _ = rope.mrope_table(positions, 32, (6, 5, 5), 1e4)
        angle = plain[:, None] * 1e4 ** (-np.arange(16) / 16)
        np.testing.assert_allclose(cos, np.cos(np.tile(angle, (1, 2))), atol=2e-6)
        other = rope.mrope_table(positions, 32, (16, 0, 0), 1e4)[0]
        np.testing.assert_array_equal(cos, other)

    def test_vision_angles(self):
        row, col = np.array([[0, 1, 5]]), np.array([[2, 0, 7]])
        got = rope.vision_rope_angles(row, col, 16, 1e4)
        freqs = 1e4 ** (-np.arange(4) / 4)
        want = np.concatenate([row[..., None] * freqs, col[..., None] * freqs], -1)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        cos, sin = rope.vision_rope_table(row, col, 16, 1e4)
        np.testing.assert_allclose(cos, np.cos(np.tile(want, 2)), atol=1e-6)
        np.testing.assert_allclose(sin, np.sin(np.tile(want, 2)), atol=1e-6)


class RotateTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 3),))
    def test_turns_pairs_half_a_head_apart(self, batch):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((*batch, 5, 2, 8)).astype(np.float32)
        angle = rng.uniform(-3, 3, (*batch, 5, 4)).astype(np.float32)
        doubled = np.concatenate([angle, angle], -1)
        got = rope.rotate(x, jnp.cos(doubled), jnp.sin(doubled))
        z = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angle)[..., None, :]
        np.testing.assert_allclose(got, np.concatenate([z.real, z.imag], -1), atol=1e-6)

    def test_scores_depend_on_the_distance_alone(self):
        q, k = np.random.default_rng(0).standard_normal((2, 1, 1, 16)).astype(np.float32)

        def score(m, n):
            tables = [
                rope.mrope_table(np.full((3, 1), p), 16, (4, 2, 2), 1e4) for p in (m, n)
            ]
            a, b = rope.rotate(q, *tables[0]), rope.rotate(k, *tables[1])
            return float(jnp.sum(a * b))

        np.testing.assert_allclose(score(7, 3), score(104, 100), rtol=1e-4)
        assert abs(score(7, 3) - score(7, 4)) > 1e-2

    def test_keeps_the_type_of_narrow_tables(self):
        x = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
        table = jnp.ones((1, 1, 4), jnp.bfloat16)
        assert rope.rotate(x, table, table).dtype == jnp.bfloat16


@pytest.mark.torch
class TransformersTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.torch = pytest.importorskip("torch")
        self.hf = pytest.importorskip("transformers.models.qwen3_vl.modeling_qwen3_vl")

    @parameterized.parameters((128, (24, 20, 20), 5e6), (32, (6, 5, 5), 1e4))
    def test_language_tables(self, head_dim, section, theta):
        from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig

        scaling = {"rope_type": "default", "rope_theta": theta}
        scaling |= {"mrope_section": list(section), "mrope_interleaved": True}
        config = Qwen3VLTextConfig(
            head_dim=head_dim,
            hidden_size=2 * head_dim,
            num_attention_heads=2,
            num_key_value_heads=2,
            rope_theta=theta,
            rope_scaling=scaling,
        )
        module = self.hf.Qwen3VLTextRotaryEmbedding(config)
        positions = _positions((2, 9))
        want = module(self.torch.zeros(1), self.torch.tensor(positions))
        got = rope.mrope_table(positions, head_dim, section, theta)
        for ours, theirs in zip(got, want):
            # One unit in the last place of the largest angle, 3000 radians.
            np.testing.assert_allclose(ours, theirs.numpy(), atol=3e-4)

    def test_vision_tables(self):
        from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

        row, col = np.divmod(np.arange(12), 4)
        got = rope.vision_rope_table(row, col, 72, 1e4)
        try:
            module = self.hf.Qwen3VLVisionRotaryEmbedding(
                Qwen3VLVisionConfig(hidden_size=144, num_heads=2)
            )
            positions = self.torch.tensor(np.stack([row, col])[None])
            want = [table.numpy() for table in module(self.torch.zeros(1), positions)]
        except AttributeError:  # earlier releases: a table of angles by row and by column
            table = self.hf.Qwen3VLVisionRotaryEmbedding(36)(12).numpy()
            angle = np.tile(np.concatenate([table[row], table[col]], -1), 2)
            want = [np.cos(angle), np.sin(angle)]
        for ours, theirs in zip(got, want):
            np.testing.assert_allclose(ours, theirs.reshape(ours.shape), atol=2e-6)

    def test_rotation(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 5, 3, 16)).astype(np.float32)
        cos, sin = rope.mrope_table(_positions((2, 5)), 16, (4, 2, 2), 1e4)
        tensors = [self.torch.tensor(np.asarray(a)) for a in (x, cos, sin)]
        want, _ = self.hf.apply_rotary_pos_emb(
            tensors[0], tensors[0], tensors[1], tensors[2], unsqueeze_dim=2
        )
        np.testing.assert_allclose(rope.rotate(x, cos, sin), want.numpy(), atol=1e-6)
