"""Reads and writes the tokenizer files of a Hugging Face checkpoint directory, offline.

Either one `tokenizer.json`, or the older `vocab.json`, `merges.txt` and `tokenizer_config.json`,
from which the same byte-level BPE is put together (the Qwen2 rules).
"""

import json
import os
import pathlib
from typing import Any, Iterable, Mapping

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from alpamayo_jax.files import write_bytes
from alpamayo_jax.tokens import vocabulary
from alpamayo_jax.types import InputError

# How Qwen2 cuts text into words: contractions, letters with at most one leading other character,
# single digits, runs of punctuation, line breaks, spaces.
_WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def byte_level_bpe(
    vocab: Mapping[str, int] | None = None, merges: Iterable[tuple[str, str]] | None = None
) -> tokenizers.Tokenizer:
    """Byte-level BPE with the Qwen2 normaliser, word pattern and decoder; empty without `vocab`."""
    model = models.BPE() if vocab is None else models.BPE(vocab=dict(vocab), merges=list(merges))
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    backend.decoder = decoders.ByteLevel()
    return backend


def find_folder(directory: str | os.PathLike) -> pathlib.Path:
    """The folder with the tokenizer files: `directory`, or the backbone's folder inside it.

    The backbone's folder is `vlm_name_or_path` of `directory`/config.json. It is never looked for
    outside `directory`.

    Raises:
      InputError: no tokenizer files there, or a `vlm_name_or_path` that leaves the directory.
    """
    directory = pathlib.Path(directory)
    if _has_files(directory):
        return directory
    wanted = "tokenizer.json, or vocab.json with merges.txt"
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise InputError(f"{directory} has no tokenizer files ({wanted}) and no config.json")
    name = read_json(config_file).get("vlm_name_or_path")
    if not isinstance(name, str) or not name:
        raise InputError(
            f"{directory} has no tokenizer files ({wanted}), and {config_file} does not name a "
            f"folder for them: vlm_name_or_path is {name!r}"
        )
    root, folder = directory.resolve(), (directory / name).resolve()
    if not folder.is_relative_to(root):
        raise InputError(
            f"{config_file}: vlm_name_or_path {name!r} must be a folder inside {directory}"
        )
    if not _has_files(folder):
        raise InputError(
            f"no tokenizer files ({wanted}) in {directory} nor in {directory / name} "
            f"(vlm_name_or_path of config.json); copy the backbone's tokenizer files there"
        )
    return folder


def read_backend(folder: pathlib.Path) -> tokenizers.Tokenizer:
    """The tokenizer described by the files of `folder`, with its own added tokens.

    Raises:
      InputError: a file is not what it should be; the message names it.
    """
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        content = read_json(path)
        _use_canonical_names(content, path)
        backend = _parse(path, lambda: tokenizers.Tokenizer.from_str(json.dumps(content)))
    else:
        path = folder / "vocab.json"
        vocab, merges = read_json(path), _read_merges(folder / "merges.txt")
        backend = _parse(path, lambda: byte_level_bpe(vocab, merges))
        settings = folder / "tokenizer_config.json"
        if settings.is_file():
            _add_listed_tokens(backend, settings)
    backend.no_truncation()
    backend.no_padding()
    return backend


def contents(backend: tokenizers.Tokenizer) -> dict[str, bytes]:
    """File name -> content of the files from which `read_backend` makes the same tokenizer."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": vocabulary.special("im_end"),
        "pad_token": vocabulary.special("endoftext"),
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 262_144,
    }
    return {
        "tokenizer.json": backend.to_str(pretty=True).encode(),
        "tokenizer_config.json": (json.dumps(settings, indent=2) + "\n").encode(),
    }


def write(directory: pathlib.Path, backend: tokenizers.Tokenizer) -> None:
    """Writes the files of `contents`, each whole or not at all."""
    for name, content in contents(backend).items():
        write_bytes(directory / name, content)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; `InputError` when it is unreadable or not an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _has_files(folder: pathlib.Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )


def _parse(path: pathlib.Path, make):
    try:
        return make()
    except Exception as error:  # the tokenizers package raises nothing more specific
        raise InputError(f"{path} does not describe a tokenizer: {error}") from error


def _read_merges(path: pathlib.Path) -> list[tuple[str, str]]:
    try:
        # Not splitlines: tokens may hold characters that it takes for line ends.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    merges = []
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise InputError(f"{path}, line {number}: expected two tokens, got {line!r}")
        merges.append((pair[0], pair[1]))
    return merges


def _add_listed_tokens(backend: tokenizers.Tokenizer, path: pathlib.Path) -> None:
    listed = read_json(path).get("added_tokens_decoder", {})
    try:
        entries = sorted((int(i), str(e["content"]), dict(e)) for i, e in listed.items())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: added_tokens_decoder must map ids to tokens") from error
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    backend.add_tokens([
        tokenizers.AddedToken(content, **{f: bool(e[f]) for f in flags if f in e})
        for _, content, e in entries
    ])
    for index, content, _ in entries:
        found = backend.token_to_id(content)
        if found != index:
            raise InputError(
                f"{path}: added_tokens_decoder gives {content!r} id {index}, but with the "
                f"vocabulary beside it the token gets id {found}"
            )


def _use_canonical_names(content: dict[str, Any], path: pathlib.Path) -> None:
    spellings = {vocabulary.padding_spelling(n): n for n in vocabulary.SPECIAL_NAMES}
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(entry, dict) for entry in added):
        raise InputError(f"{path}: added_tokens must be a list of objects")
    for entry in added:
        name = spellings.get(entry.get("content"))
        if name is not None:
            entry["content"] = vocabulary.special(name)
