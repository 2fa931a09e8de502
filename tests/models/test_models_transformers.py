"""The backbone against Qwen3-VL of transformers, at a tiny size with random weights in float32."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.convert import table
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import quick_jit, random_inputs, tiny_config
from alpamayo_jax.testing.torch_twin import backbone_config

pytestmark = pytest.mark.torch
TOLERANCE = 1e-4

_BASE = tiny_config()
_CONFIG = tiny_config(
    vision=dataclasses.replace(
        _BASE.vision, depth=5, num_position_embeddings=36, deepstack_visual_indexes=(0, 2, 3)
    ),
    language=dataclasses.replace(_BASE.language, num_layers=4),
)
_GRIDS = (((4, 6), (2, 4)), ((6, 2),))


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def reference(torch):
    """The transformers model in float32, with weights large enough that every part matters."""
    transformers = pytest.importorskip("transformers")
    config = backbone_config(_CONFIG)
    torch.manual_seed(0)
    model = transformers.Qwen3VLForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = 0.3 if weight.ndim > 1 else 0.2
            is_scale = "norm" in name and "bias" not in name
            weight.copy_(scale * torch.randn(weight.shape) + is_scale)
    return model


@pytest.fixture(scope="module")
def params(reference):
    """The same weights in our tree, through the conversion table."""
    tensors = {name: w.detach().numpy() for name, w in reference.named_parameters()}
    tree, used = {}, set()
    for row in table.parameters(_CONFIG):
        if row.path[0] != "vlm":
            continue
        names = [name.removeprefix("vlm.") for name, _ in row.tensors()]
        used |= set(names)
        values = [row.from_hf(tensors[name]) for name in names]
        value = values[0] if row.num_layers is None else np.stack(values)
        node = tree
        for key in row.path[:-1]:
            node = node.setdefault(key, {})
        node[row.path[-1]] = jnp.asarray(value)
    assert used == set(tensors)
    return tree["vlm"]


@pytest.fixture(scope="module")
def inputs():
    return random_inputs(_CONFIG, _GRIDS)


@pytest.fixture(scope="module")
def images(torch, inputs):
    """Real patches in a row and their grids, as transformers reads them."""
    grid = np.asarray(inputs.image_grid).reshape(-1, 2)
    pixels = np.asarray(inputs.pixel_values).reshape(len(grid), -1, _CONFIG.vision.patch_dim)
    flat = np.concatenate([p[: h * w] for p, (h, w) in zip(pixels, grid)])
    present = grid[grid.prod(-1) > 0]
    return torch.tensor(flat), torch.tensor(np.insert(present, 0, 1, axis=1))


def _flat(tokens, grid):
    """Tokens [B, I, P, D] of present images in a row."""
    tokens, grid = (np.asarray(a).reshape(-1, *a.shape[2:]) for a in (tokens, grid))
    return np.concatenate([t[: h * w // 4] for t, (h, w) in zip(tokens, grid)])


def test_vision_tower(torch, reference, params, inputs, images):
    from alpamayo_jax.models.vision import VisionTower

    with torch.no_grad():
        out = reference.model.visual(images[0], grid_thw=images[1])
    want, want_deepstack = (
        (out.pooler_output, out.deepstack_features) if hasattr(out, "pooler_output") else out
    )
    tower = VisionTower(_CONFIG.vision)
    got, deepstack = quick_jit(tower.apply)(
        {"params": params["visual"]}, inputs.pixel_values, inputs.image_grid
    )
    np.testing.assert_allclose(_flat(got, inputs.image_grid), want.numpy(), atol=TOLERANCE)
    assert len(deepstack) == len(want_deepstack) == 3
    for ours, theirs in zip(deepstack, want_deepstack):
        np.testing.assert_allclose(_flat(ours, inputs.image_grid), theirs.numpy(), atol=TOLERANCE)


def test_positions_hidden_states_and_logits(torch, reference, params, inputs, images):
    ids, mask = (
        torch.tensor(np.asarray(a)).long() for a in (inputs.input_ids, inputs.attention_mask)
    )
    is_image = (ids == _CONFIG.text_tokens.image_token_id).int()
    arguments = dict(input_ids=ids, image_grid_thw=images[1], attention_mask=mask)
    try:
        positions, _ = reference.model.get_rope_index(mm_token_type_ids=is_image, **arguments)
    except TypeError:  # earlier releases find the images themselves
        positions, _ = reference.model.get_rope_index(**arguments)
    real = np.asarray(inputs.attention_mask)
    assert not real.all()
    ours = np.asarray(inputs.position_ids)
    np.testing.assert_array_equal(ours[:, real], positions.numpy()[:, real])
    # Releases differ in whether padding counts; the released model's, and ours, does.
    last = positions.numpy().max(0, where=real, initial=0).max(-1)
    np.testing.assert_array_equal(inputs.rope_delta, last + 1 - real.shape[1])

    with torch.no_grad():
        out = reference(
            pixel_values=images[0],
            position_ids=positions,
            output_hidden_states=True,
            use_cache=True,
            **arguments,
        )
    model = Alpamayo(_CONFIG)

    @quick_jit
    def run(params):
        hidden, cache = model.apply(
            {"params": {"vlm": params}}, inputs, inputs.input_ids, method="prefill"
        )
        logits = model.apply({"params": {"vlm": params}}, hidden, method="logits")
        return hidden, cache, logits

    hidden, cache, logits = run(params)
    want = out.hidden_states[-1].numpy()
    np.testing.assert_allclose(np.asarray(hidden)[real], want[real], atol=TOLERANCE)
    scale = np.abs(out.logits.numpy()).max()
    np.testing.assert_allclose(
        np.asarray(logits)[real] / scale, out.logits.numpy()[real] / scale, atol=TOLERANCE
    )
    for index, layer in enumerate(out.past_key_values.layers):
        for ours, theirs in ((cache.k[index], layer.keys), (cache.v[index], layer.values)):
            at_real = (np.moveaxis(np.asarray(a), 2, 1)[real] for a in (ours, theirs.numpy()))
            np.testing.assert_allclose(*at_real, atol=TOLERANCE)
