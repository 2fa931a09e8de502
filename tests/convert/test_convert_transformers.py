"""What we save is what transformers understands: the backbone's configuration, names and shapes."""

import pytest
from convert_samples import random_params, small_config

from alpamayo_jax.convert import hf_shapes, save_checkpoint
from alpamayo_jax.convert.checkpoint_files import tensor_entries


@pytest.mark.torch
def test_backbone_names_and_shapes(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = small_config()
    save_checkpoint(tmp_path / "x", config, random_params(config))
    sizes = transformers.Qwen3VLConfig.from_pretrained(tmp_path / "x" / "vlm")
    sizes.text_config.vocab_size = config.language.vocab_size  # as the release does
    with torch.device("meta"):
        model = transformers.Qwen3VLForConditionalGeneration(sizes)
    wanted = {f"vlm.{name}": tuple(p.shape) for name, p in model.named_parameters()}
    ours = {name: shape for name, shape in hf_shapes(config).items() if name.startswith("vlm.")}
    assert ours == wanted
    stored = {n: e.shape for n, e in tensor_entries(tmp_path / "x").items() if n in wanted}
    assert stored == wanted
