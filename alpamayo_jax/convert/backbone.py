"""The vision-language backbone that a config.json refers to: its sizes and its token ids."""

import dataclasses
import pathlib
from typing import Any, Callable, Mapping

from alpamayo_jax.config import ModelConfig, TextTokenConfig
from alpamayo_jax.convert.checkpoint_files import tensor_entries
from alpamayo_jax.convert.config_fields import (
    HUB_PRESETS,
    IMAGE_FIELDS,
    TEXT_TOKENS,
    TIED,
    TIED_INSIDE,
    VLM_FIELDS,
    VLM_FIXED,
    VLM_TYPE,
    Field,
)
from alpamayo_jax.convert.document import Document, Values
from alpamayo_jax.presets import preset

CONFIG = "config.json"
EMBEDDED = "vlm_config"
OWN_FOLDER = "vlm"  # where we write the sizes of a backbone that is no known one

Loader = Callable[[str], dict[str, Any] | None]  # relative name -> JSON, None where there is none


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Where the backbone's sizes stand.

    Attributes:
      document: its config.json, or the part of the checkpoint's that holds it.
      file: relative name of its own file, or None where it is part of the checkpoint's config.json.
      tied: where it says whether the output projection is the embedding.
    """

    document: Document
    file: str | None
    tied: Field = TIED


def folder_of(document: Document) -> str | None:
    """The name in `vlm_name_or_path` where it can be a folder inside the checkpoint, else None."""
    name = document.find("vlm_name_or_path")
    path = pathlib.PurePosixPath(name if isinstance(name, str) else "")
    inside = path.parts and not path.is_absolute() and ".." not in path.parts
    return str(path) if inside and "\\" not in name else None


def find_backbone(document: Document, load: Loader) -> Backbone | None:
    """The backbone's sizes: embedded in the checkpoint's config.json or in the folder it names."""
    if isinstance(document.find(EMBEDDED), Mapping):
        inner = Document(document.path, document.data[EMBEDDED], f"{EMBEDDED}.")
        return Backbone(inner, None)
    if document.find("text_config") is not None and document.find("vision_config") is not None:
        # The outer tie_word_embeddings is a default of the configuration class and means nothing.
        return Backbone(document, None, TIED_INSIDE)
    folder = folder_of(document)
    data = None if folder is None else load(f"{folder}/{CONFIG}")
    if data is None:
        return None
    file = f"{folder}/{CONFIG}"
    return Backbone(Document(document.path.parent / file, data), file)


def read_backbone(document: Document, load: Loader, values: Values) -> None:
    """Puts vision and language sizes, token ids and image statistics into `values`.

    Raises:
      InputError: no sizes are found, or they are not those of a backbone like Qwen3-VL.
    """
    backbone = find_backbone(document, load)
    if backbone is None:
        _read_known(document, values)
    else:
        for fixed in VLM_FIXED if backbone.document is document else (VLM_TYPE, *VLM_FIXED):
            backbone.document.require(fixed)
        for field in VLM_FIELDS:
            backbone.document.read(field, values)
        _read_tied(backbone, document.path.parent, values)
        known = _tokenizer_ids(document, load)
        for field, _ in TEXT_TOKENS:
            if field.ours in known and not _stated(backbone.document, field):
                values[field.ours] = known[field.ours]
            else:
                backbone.document.read(field, values)
    for folder in _folders(document):
        name = f"{folder}preprocessor_config.json"
        if (data := load(name)) is not None:
            for field in IMAGE_FIELDS:
                Document(document.path.parent / name, data).read(field, values)
            break


def write_backbone(
    document: Document, load: Loader, config: ModelConfig, values: Values
) -> dict[str, Any]:
    """Puts the backbone's sizes where `document` has them.

    Returns:
      Files to write: relative name -> JSON.
    """
    backbone = find_backbone(document, load)
    explicit = backbone is None
    if backbone is None:
        name = document.find("vlm_name_or_path")
        if name in _matching_hub_names(config):
            return {}
        folder = None if name in tuple(HUB_PRESETS) else folder_of(document)
        folder = folder or OWN_FOLDER
        document.put("vlm_name_or_path", folder)
        file = f"{folder}/{CONFIG}"
        backbone = Backbone(Document(document.path.parent / file, _skeleton(config)), file)
    for field in (*VLM_FIELDS, backbone.tied):
        backbone.document.write(field, values, explicit)
    known = _tokenizer_ids(document, load)
    for field, _ in TEXT_TOKENS:
        if _stated(backbone.document, field) or known.get(field.ours) != values[field.ours]:
            backbone.document.write(field, values, explicit)
    return {} if backbone.file is None else {backbone.file: backbone.document.data}


def backbone_name(config: ModelConfig) -> str:
    """A known hub name whose sizes are those of `config`, or the folder that is to hold them."""
    return next(iter(_matching_hub_names(config)), OWN_FOLDER)


def _matching_hub_names(config: ModelConfig) -> list[str]:
    def fits(known: ModelConfig) -> bool:
        language = dataclasses.replace(known.language, vocab_size=config.language.vocab_size)
        # A compressor behind it does not change the backbone.
        vision = dataclasses.replace(known.vision, compressor=config.vision.compressor)
        same_sizes = vision == config.vision and language == config.language
        return same_sizes and config.text_tokens == TextTokenConfig()

    return [name for name, known in HUB_PRESETS.items() if fits(preset(known))]


def _read_known(document: Document, values: Values) -> None:
    name = document.find("vlm_name_or_path")
    if name not in tuple(HUB_PRESETS):
        raise document.error(
            "vlm_name_or_path",
            f"a folder beside it with the backbone's {CONFIG}, or one of {', '.join(HUB_PRESETS)}",
            name,
        )
    known = preset(HUB_PRESETS[name])
    for section in ("vision", "language", "text_tokens"):
        part = getattr(known, section)
        values |= {f"{section}.{f.name}": getattr(part, f.name) for f in dataclasses.fields(part)}
    del values["language.vocab_size"]  # the checkpoint's own counts


def _skeleton(config: ModelConfig) -> dict[str, Any]:
    """A Qwen3-VL config.json but for the sizes."""
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": VLM_TYPE.value,
        "text_config": {
            "attention_bias": False,
            "hidden_act": "silu",
            "model_type": "qwen3_vl_text",
            "rope_scaling": {"mrope_interleaved": True, "rope_type": "default"},
            "vocab_size": config.trajectory_tokens.traj_token_start_idx,
        },
        "vision_config": {"hidden_act": "gelu_pytorch_tanh", "model_type": "qwen3_vl"},
    }


def _folders(document: Document) -> list[str]:
    """Where tokenizer and processor files may be: the backbone's folder, the checkpoint."""
    folder = folder_of(document)
    return [""] if folder is None else [f"{folder}/", ""]


def _read_tied(backbone: Backbone, directory: pathlib.Path, values: Values) -> None:
    if not _stated(backbone.document, backbone.tied) and any(directory.glob("*.safetensors")):
        # A tied model is saved without its output projection.
        values[TIED.ours] = "vlm.lm_head.weight" not in tensor_entries(directory)
    else:
        backbone.document.read(backbone.tied, values)


def _stated(document: Document, field: Field) -> bool:
    return any(document.find(place) is not None for place in field.places)


def _tokenizer_ids(document: Document, load: Loader) -> dict[str, int]:
    """Our field -> id, as far as the tokenizer's settings tell."""
    names: dict[str, str] = {}
    ids: dict[str, int] = {}
    for folder in _folders(document):
        settings = load(f"{folder}tokenizer_config.json") or {}
        for key in ("pad_token", "eos_token"):
            token = settings.get(key)
            token = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(token, str):
                names.setdefault(key, token)
        added = settings.get("added_tokens_decoder")
        for key, token in added.items() if isinstance(added, Mapping) else ():
            if isinstance(token, Mapping) and key.isdecimal():
                ids.setdefault(token.get("content"), int(key))
    wanted = {field.ours: names.get(token, token) for field, token in TEXT_TOKENS}
    return {ours: ids[token] for ours, token in wanted.items() if token in ids}
