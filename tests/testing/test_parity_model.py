import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.testing.parity import model
from alpamayo_jax.testing.parity.base import Reference
from alpamayo_jax.testing.tiny import quick_jit


@pytest.fixture(scope="module")
def reference(reference_dir):
    found = Reference(reference_dir)
    if not all(map(found.has, model.REQUIRES)):
        pytest.skip(f"{reference_dir} lacks one of {', '.join(model.REQUIRES)}")
    return found


@pytest.fixture(scope="module")
def checks(reference):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", quick_jit)
        return model.checks(reference)


def test_every_check_passes(checks):
    assert not [c for c in checks if not c.passed]


def test_every_part_is_compared(checks, reference):
    arrays = reference.arrays("model.npz")
    quantities = {c.quantity for c in checks}
    layers = len(arrays["text_layer_out_before_deepstack"])
    blocks = sum(name.startswith("vis_block") for name in arrays)
    wanted = {f"language layer {i}" for i in range(layers)}
    wanted |= {f"vision block {i}" for i in range(blocks)}
    wanted |= {"vision tokens", "deepstack", "rotary positions", "final hidden", "logits, last 4"}
    wanted |= {"action input projection", "sampling filters"}
    for case in model.CASES:
        if f"{case}:sequences" in arrays:
            names = ("greedy ids", "waypoint positions", "visible cache", "Euler states")
            wanted |= {f"{case}: {name}" for name in (*names, "pred_xyz", "pred_rot")}
            steps = [q for q in quantities if q.startswith(f"{case}: velocity, step")]
            assert len(steps) == 1, f"the worst step of case {case}"
        if f"{case}:gen_logits_text_ids" in arrays:
            wanted.add(f"{case}: logits of generated tokens")
    if reference.has("model_kv.npz"):
        wanted |= {"prefill keys", "prefill values", "A: cached keys", "A: cached values"}
    assert wanted <= quantities


def test_tolerances_are_those_of_the_records(checks):
    for check in checks:
        exact = any(word in check.quantity for word in ("ids", "argmax", "positions", "visible"))
        over_steps = any(word in check.quantity for word in ("Euler", "pred_"))
        if check.quantity == "learned positions":
            exact = False
        assert check.tolerance <= (2e-3 if over_steps else 0 if exact else 1e-4), check.quantity


def test_images_of_different_sizes_are_taken_apart(reference):
    config, _ = model.load(reference.path(model.CHECKPOINT))
    text, image = 1, config.text_tokens.image_token_id
    ids = np.array([[text, image, image, text, image], [image, image, image, text, text]])
    grid = np.array([[1, 2, 4], [1, 2, 2], [1, 4, 2], [1, 2, 2]])
    patches = np.arange(24.0)[:, None] * np.ones(config.vision.patch_dim)
    xyz, rot = np.zeros((2, 1, 16, 3)), np.zeros((2, 1, 16, 3, 3))
    got = model.batch_inputs(config, ids, np.ones_like(ids), patches, grid, xyz, rot)
    assert got.pixel_values.shape[:3] == (2, 2, 8)
    np.testing.assert_array_equal(got.image_grid, grid[:, 1:].reshape(2, 2, 2))
    first = np.asarray(got.pixel_values)[..., 0]
    assert first[0].tolist() == [[*range(8)], [8, 9, 10, 11, 0, 0, 0, 0]]
    assert first[1].tolist() == [[*range(12, 20)], [20, 21, 22, 23, 0, 0, 0, 0]]
    assert got.image_index.tolist() == [[-1, 0, 1, -1, 2], [0, 1, 2, -1, -1]]


def _changed(reference, name, change):
    arrays = dict(reference.arrays("model.npz"))
    arrays[name] = change(arrays[name].copy())
    return arrays


def test_other_sampling_filters_are_noticed(reference):
    config, _ = model.load(reference.path(model.CHECKPOINT))
    (good,) = model._warp(reference.arrays("model.npz"), config)
    worse = _changed(reference, "warp_logits", lambda logits: logits * 1.01)
    (bad,) = model._warp(worse, config)
    assert good.passed and not bad.passed


def test_another_action_projection_is_noticed(reference):
    config, params = model.load(reference.path(model.CHECKPOINT))
    worse = _changed(reference, "probe_x", lambda x: x + 1e-4)
    (bad,) = model._action_projection(worse, config, params)
    assert not bad.passed


def test_absent_parts_are_left_out(reference):
    config, params = model.load(reference.path(model.CHECKPOINT))
    assert model._warp({}, config) == [] == model._action_projection({}, config, params)


def test_parameters_are_read_once(reference):
    config, params = model.load(reference.path(model.CHECKPOINT))
    assert model.load(reference.path(model.CHECKPOINT))[1] is params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    assert config.precision.compute == "float32"
