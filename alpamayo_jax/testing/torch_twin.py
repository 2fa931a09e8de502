"""The same train step in PyTorch: Qwen3-VL of transformers with our sizes, weights and batch.

For comparison only; torch and transformers are imported when they are used.
"""

from typing import Any, Callable

import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert.table import flatten, parameters
from alpamayo_jax.types import TrainBatch


def backbone_config(config: ModelConfig) -> Any:
    """The `transformers.Qwen3VLConfig` of a policy's vision-language model."""
    import transformers

    v, t, ids = config.vision, config.language, config.text_tokens
    rope = {"rope_type": "default", "rope_theta": t.rope_theta}
    rope |= {"mrope_section": list(t.mrope_section), "mrope_interleaved": True}
    return transformers.Qwen3VLConfig(
        vision_config=dict(
            depth=v.depth,
            hidden_size=v.hidden_size,
            num_heads=v.num_heads,
            intermediate_size=v.intermediate_size,
            out_hidden_size=v.out_hidden_size,
            patch_size=v.patch_size,
            temporal_patch_size=v.temporal_patch_size,
            spatial_merge_size=v.spatial_merge_size,
            num_position_embeddings=v.num_position_embeddings,
            deepstack_visual_indexes=list(v.deepstack_visual_indexes),
        ),
        text_config=dict(
            vocab_size=t.vocab_size,
            hidden_size=t.hidden_size,
            num_hidden_layers=t.num_layers,
            num_attention_heads=t.num_heads,
            num_key_value_heads=t.num_kv_heads,
            head_dim=t.head_dim,
            intermediate_size=t.intermediate_size,
            rms_norm_eps=t.rms_norm_eps,
            rope_theta=t.rope_theta,
            rope_scaling=rope,
        ),
        image_token_id=ids.image_token_id,
        vision_start_token_id=ids.vision_start_token_id,
        vision_end_token_id=ids.vision_end_token_id,
        tie_word_embeddings=t.tie_word_embeddings,
    )


def backbone(config: ModelConfig, params: dict) -> Any:
    """A `Qwen3VLForConditionalGeneration` in float32 with the weights of `params`."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.Qwen3VLForConditionalGeneration(backbone_config(config)).float()
    leaves = flatten(params)
    weights = {}
    for row in parameters(config):
        if row.path[0] != "vlm":
            continue
        value = np.asarray(leaves[row.path], np.float32)
        for name, index in row.tensors():
            part = row.to_hf(value if index is None else value[index])
            weights[name.removeprefix("vlm.")] = torch.from_numpy(np.array(part))
    named = dict(model.named_parameters())
    if named.keys() != weights.keys():
        raise ValueError(f"other weights: {sorted(named.keys() ^ weights.keys())}")
    model.load_state_dict(weights, strict=False)  # buffers are its own
    return model.train()


def torch_train_step(
    config: ModelConfig,
    params: dict,
    batch: TrainBatch,
    ids: np.ndarray,
    *,
    learning_rate: float = 1e-5,
    device: str = "cpu",
    checkpointing: bool = False,
) -> Callable[[], float]:
    """One step of AdamW on the mean cross-entropy of the labelled tokens, as a call -> loss.

    Gradients are clipped to norm 1; layers compute in `config.precision.compute` (autocast),
    masters and moments are float32. Each call goes on from the last.

    Args:
      config: model.
      params: our parameters.
      batch: images of one size each row, no padding.
      ids: int [B, T], with trajectory ids in place of placeholders.
      learning_rate: constant.
      device: of torch.
      checkpointing: compute activations again in the backward pass.
    """
    import torch

    model = backbone(config, params).to(device)
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    inputs = batch.inputs
    tokens = torch.tensor(np.asarray(ids)).long().to(device)
    grid = np.asarray(inputs.image_grid).reshape(-1, 2)
    pixels = np.asarray(inputs.pixel_values).reshape(len(grid), -1, config.vision.patch_dim)
    flat = np.concatenate([p[: h * w] for p, (h, w) in zip(pixels, grid)])
    labels = torch.where(torch.tensor(np.asarray(batch.labels_mask)).to(device), tokens, -100)
    arguments = dict(
        input_ids=tokens,
        labels=labels,
        position_ids=torch.tensor(np.asarray(inputs.position_ids)).long().to(device),
        pixel_values=torch.tensor(flat).to(device),
        image_grid_thw=torch.tensor(np.insert(grid[grid.prod(-1) > 0], 0, 1, axis=1)).to(device),
        use_cache=False,
    )
    kind = getattr(torch, config.precision.compute)

    def step() -> float:
        with torch.autocast(device, kind, enabled=kind != torch.float32):
            loss = model(**arguments).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step
