"""config.json of a checkpoint directory <-> `ModelConfig`; what we do not know is kept."""

import copy
import json
import pathlib
from typing import Any, Mapping

from alpamayo_jax.config import RELEASES, ConfigError, ModelConfig, PrecisionConfig
from alpamayo_jax.convert.backbone import (
    CONFIG,
    Loader,
    backbone_name,
    read_backbone,
    write_backbone,
)
from alpamayo_jax.convert.checkpoint_files import read_json
from alpamayo_jax.convert.config_fields import (
    ARCHITECTURES,
    HISTORY_TOKENS,
    MODEL_FIELDS,
    MODEL_FIXED,
    TARGETS,
)
from alpamayo_jax.convert.document import Document, Values
from alpamayo_jax.files import write_bytes
from alpamayo_jax.errors import InputError

OWN_SECTION = "alpamayo_jax"  # settings of ours that the released format has no field for


def read_config(directory: str | pathlib.Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads the configuration of a checkpoint directory.

    Args:
      directory: has config.json and, unless the backbone is a known hub name, the folder with the
        backbone's own config.json.

    Returns:
      The configuration, and config.json as it is, for `write_config`.

    Raises:
      InputError: a field is missing, of the wrong type, contradicts another one, or belongs to
        another model; names the file and the field.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise InputError(f"checkpoint directory {directory} does not exist")
    raw = read_json(directory / CONFIG)
    return _parse(Document(directory / CONFIG, raw), _loader(directory, {})), raw


def write_config(
    directory: str | pathlib.Path, config: ModelConfig, raw: Mapping[str, Any] | None = None
) -> None:
    """Writes config.json, and the backbone's config.json where it is not a known hub name.

    `read_config` of the result is `config`.

    Args:
      directory: must exist; other files in it stay, and a backbone config.json that is there keeps
        its unknown fields.
      config: what to write.
      raw: config.json as `read_config` returned it: its fields are kept, and only those that say
        something else than `config` are changed.

    Raises:
      InputError: `raw` is not a config.json of these models.
    """
    directory = pathlib.Path(directory)
    data = _skeleton(config) if raw is None else copy.deepcopy(dict(raw))
    data.pop(OWN_SECTION, None)
    document = Document(directory / CONFIG, data)
    values = _flat(config.to_dict())
    for field in MODEL_FIELDS:
        document.write(field, values, explicit=raw is None)
    document.write(HISTORY_TOKENS, values, explicit=True)
    files = {CONFIG: data} | write_backbone(document, _loader(directory, {}), config, values)
    understood = _parse(document, _loader(directory, files))
    rest = _difference(config.to_dict(), understood.to_dict())
    if rest:
        data[OWN_SECTION] = rest
    for name, content in files.items():
        write_bytes(directory / name, (json.dumps(content, indent=2) + "\n").encode())


def _parse(document: Document, load: Loader) -> ModelConfig:
    release = document.find("model_type")
    if release not in RELEASES:
        raise document.error("model_type", " or ".join(RELEASES), release)
    quantised = document.find("quantization_config")
    if quantised is not None:
        raise document.error(
            "quantization_config", "none: quantised weights are not read", quantised
        )
    for section, target in TARGETS.items():
        name, wanted = document.find(f"{section}._target_"), target.rsplit(".", 1)[-1]
        if not isinstance(name, str) or name.rsplit(".", 1)[-1] != wanted:
            raise document.error(f"{section}._target_", f"the class {wanted}", name)
    for fixed in MODEL_FIXED:
        document.require(fixed)
    values: Values = {}
    read_backbone(document, load, values)
    for field in (*MODEL_FIELDS, HISTORY_TOKENS):
        document.read(field, values)
    _derive(document, values)
    own = document.find(OWN_SECTION) or {}
    try:
        config = ModelConfig.from_dict(_overlay(_nested(values), own))
    except ConfigError as error:
        raise InputError(f"{document.path}: {error}") from error
    _check_vocabulary(document, config)
    return config


def _derive(document: Document, values: Values) -> None:
    """Adds what the released format says only indirectly."""
    per_step = 4 if values["trajectory_tokens.history_predict_yaw"] else 3
    count = values[HISTORY_TOKENS.ours]
    if count % per_step:
        raise document.error(HISTORY_TOKENS.places[0], f"a multiple of {per_step}", count)
    values["trajectory_tokens.num_history_steps"] = count // per_step
    params = values["precision.params"]
    try:
        PrecisionConfig(params=params)
    except ConfigError as error:
        raise document.error("model_dtype", "float32, bfloat16 or float16", params) from error
    values["precision.compute"] = params
    values["precision.bf16_buffers"] = params == "bfloat16"


def _check_vocabulary(document: Document, config: ModelConfig) -> None:
    """The ids of bins and special tokens must lie inside the vocabulary."""
    tokens, vocab = config.trajectory_tokens, config.language.vocab_size
    bins, end = tokens.num_future_bins + tokens.num_history_bins, tokens.traj_token_end_idx
    if bins > tokens.traj_vocab_size:
        expected = f"at least {bins}, the bins of the two tokenizers"
        raise document.error("traj_vocab_size", expected, tokens.traj_vocab_size)
    if end >= vocab:
        expected = f"more than {end}: special tokens follow the trajectory ids"
        raise document.error("vocab_size", expected, vocab)
    special = document.find("traj_token_ids")
    for name, found in special.items() if isinstance(special, Mapping) else ():
        if found not in range(end, vocab):
            raise document.error(
                f"traj_token_ids.{name}", f"an id from {end} to {vocab - 1}", found
            )


def _skeleton(config: ModelConfig) -> dict[str, Any]:
    """config.json of a release but for its values."""
    release = config.release
    data: dict[str, Any] = {
        "architectures": [ARCHITECTURES[release]],
        "model_type": release,
        "vlm_name_or_path": backbone_name(config),
        "vlm_backend": "qwenvl3",
        "attn_implementation": "sdpa",
        "add_special_tokens": True,
        "expert_non_causal_attention": True,
        "keep_same_dtype": True,
    }
    document = Document(pathlib.Path(CONFIG), data)
    for section, target in TARGETS.items():
        own = target if target.startswith("torch.") else f"{release}.{target}"
        document.put(f"{section}._target_", own)
    document.put("traj_tokenizer_cfg._recursive_", False)
    document.put("diffusion_cfg.int_method", "euler")
    return data


def _loader(directory: pathlib.Path, pending: Mapping[str, dict]) -> Loader:
    """Reads JSON files of a directory; `pending` are about to be written there."""

    def load(name: str) -> dict[str, Any] | None:
        if name in pending:
            return pending[name]
        return read_json(directory / name) if (directory / name).is_file() else None

    return load


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Values:
    values: Values = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        values |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return values


def _nested(values: Values) -> dict[str, Any]:
    tree = Document(pathlib.Path(), {})
    for place, value in values.items():
        tree.put(place, value)
    return dict(tree.data)


def _overlay(base: Any, change: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    merged = {key: _overlay(base[key], change[key]) for key in base.keys() & change.keys()}
    return {**base, **change, **merged}


def _difference(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `wanted` that differs from `got`, which has the same keys."""
    rest = {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            if inner := _difference(value, got[key]):
                rest[key] = inner
        elif value != got[key]:
            rest[key] = value
    return rest
