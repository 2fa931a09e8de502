"""Loading, extending, checking and saving tokenizers; the tiny one."""

import dataclasses
import hashlib
import json
import pickle

import hypothesis
import hypothesis.strategies as st
import pytest
import tokenizers

from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import tokenizer_files, vocabulary
from alpamayo_jax.tokens.tokenizer import Tokenizer, tiny_tokenizer
from alpamayo_jax.types import InputError

CONFIG = preset("tiny")
TEXTS = (
    "Keep lane since the road is clear.",
    "  two  spaces,\ttabs\r\n\n and 3.14159 numbers!?",
    "I'll yield; they're crossing. DON'T",
    "naïve Straße, 速度を落とす, Привет, مرحبا, 🚗💨, \u200b, ☃",
    "<|cot_start|>Stop.<|cot_end|><i0><i2999><i3999><|im_end|>\n",
    "<|not_a_token|><i4000><i-1>",
    "",
)


@pytest.fixture(scope="module")
def tiny():
    return tiny_tokenizer(CONFIG)


@pytest.fixture
def classic_folder(tmp_path, tiny):
    """The tiny base tokenizer as vocab.json, merges.txt and tokenizer_config.json."""
    tiny.save(tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    folder = tmp_path / "classic"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    merges = ["#version: 0.2"] + [" ".join(pair) for pair in content["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    base = CONFIG.trajectory_tokens.traj_token_start_idx
    added = {str(t.pop("id")): t for t in content["added_tokens"] if t["id"] < base}
    settings = {"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tiny, text):
    # The normaliser composes characters; everything here is composed already.
    assert tiny.decode(tiny.encode(text)) == text


@hypothesis.given(st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0x2FF)))
@hypothesis.settings(max_examples=50, deadline=None, database=None)
def test_round_trip_any_text(text):
    tokenizer = tiny_tokenizer(CONFIG)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decomposed_text_is_composed(tiny):
    assert tiny.encode("e\u0301") == tiny.encode("\u00e9")


def test_tiny_ids_are_the_presets(tiny):
    ids = CONFIG.text_tokens
    assert tiny.encode("<|endoftext|><|im_end|><|vision_start|><|vision_end|><|image_pad|>") == [
        ids.pad_token_id, ids.eos_token_id, ids.vision_start_token_id, ids.vision_end_token_id,
        ids.image_token_id,
    ]
    assert tiny.token_id("<|im_start|>") == 506
    assert tiny.token_id("<i0>") == CONFIG.trajectory_tokens.traj_token_start_idx
    assert tiny.size == CONFIG.language.vocab_size
    for name, wanted in vocabulary.special_token_ids(CONFIG).items():
        assert tiny.encode(vocabulary.special(name)) == [wanted]


def test_tiny_never_changes(tiny, tmp_path):
    # Tiny checkpoints mean something only with exactly these ids.
    tiny.save(tmp_path)
    vocab = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    text = "\n".join(sorted(vocab, key=vocab.get))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "5a130f63389c699ce3c64d39955e77564d43181a165723c4c4cc4dbcfb1a764b"


def test_tiny_needs_its_layout():
    text = dataclasses.replace(CONFIG.text_tokens, image_token_id=510)
    with pytest.raises(InputError, match="image_pad.*id 511.*expects 510"):
        tiny_tokenizer(dataclasses.replace(CONFIG, text_tokens=text))
    with pytest.raises(InputError, match="traj_token_start_idx 151669"):
        tiny_tokenizer(preset("r1_10b"))


def test_save_load_save(tiny, tmp_path):
    tiny.save(tmp_path / "a")
    again = Tokenizer.from_directory(tmp_path / "a", CONFIG)
    again.save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() == tiny.files()[name]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "tokenizer.json", "tokenizer_config.json"
    ]
    for text in TEXTS:
        assert again.encode(text) == tiny.encode(text)


def test_classic_files_give_the_same_tokenizer(tiny, classic_folder):
    loaded = Tokenizer.from_directory(classic_folder, CONFIG)
    for text in TEXTS:
        assert loaded.encode(text) == tiny.encode(text)


def test_survives_pickling(tiny):
    # Data workers are other processes.
    assert pickle.loads(pickle.dumps(tiny)).encode(TEXTS[0]) == tiny.encode(TEXTS[0])


def test_backbone_folder_inside_the_checkpoint(tiny, tmp_path):
    tiny.save(tmp_path / "nested" / "vlm")
    (tmp_path / "config.json").write_text(json.dumps({"vlm_name_or_path": "nested/vlm"}))
    assert Tokenizer.from_directory(tmp_path, CONFIG).size == tiny.size


@pytest.mark.parametrize("name", ("../outside", "/etc", "inside/../../outside"))
def test_never_leaves_the_checkpoint(tiny, tmp_path, name):
    tiny.save(tmp_path / "outside")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "config.json").write_text(json.dumps({"vlm_name_or_path": name}))
    with pytest.raises(InputError, match="must be a folder inside"):
        Tokenizer.from_directory(tmp_path / "dir", CONFIG)


@pytest.mark.parametrize(
    "config_json, message",
    (
        (None, "no config.json"),
        ("{}", "vlm_name_or_path is None"),
        ('{"vlm_name_or_path": "Qwen/Qwen3-VL-8B-Instruct"}', "copy the backbone's tokenizer"),
        ("{", "cannot read .*config.json"),
        ("[]", "must hold a JSON object, got list"),
    ),
)
def test_no_tokenizer_files(tmp_path, config_json, message):
    if config_json is not None:
        (tmp_path / "config.json").write_text(config_json)
    with pytest.raises(InputError, match=message):
        Tokenizer.from_directory(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "name, content, message",
    (
        ("vocab.json", '{"a": 0}', "vocab.json does not describe"),
        ("vocab.json", '{"a"', "cannot read .*vocab.json"),
        ("merges.txt", "#version: 0.2\na b c\n", "merges.txt, line 2"),
        ("merges.txt", b"\xff\xfe", "cannot read .*merges.txt"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder must map"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"7": {"content": "<|endoftext|>"}}}',
            "id 7, but .* id 505",
        ),
        ("tokenizer_config.json", "{}", "'<|endoftext|>' has id None.*expects 505"),
        ("tokenizer.json", "{}", "tokenizer.json does not describe"),
        ("tokenizer.json", '{"added_tokens": 3}', "added_tokens must be a list"),
        ("tokenizer.json", "", "cannot read .*tokenizer.json"),
    ),
)
def test_damaged_files(classic_folder, name, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (classic_folder / name).write_bytes(data)
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        Tokenizer.from_directory(classic_folder, CONFIG)


def test_vocabulary_of_another_model(classic_folder):
    with pytest.raises(InputError, match=r"endoftext\|>' has id 505.*expects 151643"):
        Tokenizer.from_directory(classic_folder, preset("r1_10b"))


def test_more_tokens_than_the_model(tiny, tmp_path):
    tiny.save(tmp_path)
    backend = tokenizer_files.read_backend(tmp_path)
    backend.add_tokens(["<extra>"])
    tokenizer_files.write(tmp_path, backend)
    with pytest.raises(InputError, match="has 4541 tokens.*vocab_size is 4540"):
        Tokenizer.from_directory(tmp_path, CONFIG)


def test_padding_spelling_of_release_1_5(tiny, tmp_path):
    tiny.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text()
    for name in vocabulary.SPECIAL_NAMES:
        spelling = vocabulary.padding_spelling(name)
        if spelling:
            text = text.replace(f'"{vocabulary.special(name)}"', f'"{spelling}"')
    path.write_text(text)
    loaded = Tokenizer.from_directory(tmp_path, CONFIG)
    assert loaded.token_id("<|meta_action_start|>") == tiny.token_id("<|meta_action_start|>")


def test_release_layout(classic_folder):
    """A stand-in for the released vocabulary: the same number of base tokens, the same order."""
    settings = json.loads((classic_folder / "tokenizer_config.json").read_text())
    vocab = json.loads((classic_folder / "vocab.json").read_text())
    vocab.update({f"\u0120unused{i}": i for i in range(len(vocab), 151_643)})
    names = ["endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start",
             "box_end", "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad",
             "image_pad", "video_pad", *(f"extra_{i}" for i in range(12))]
    settings["added_tokens_decoder"] = {
        str(151_643 + i): {"content": vocabulary.special(name), "special": True}
        for i, name in enumerate(names)
    }
    (classic_folder / "vocab.json").write_text(json.dumps(vocab))
    (classic_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = Tokenizer.from_directory(classic_folder, preset("r1_10b"))
    assert loaded.size == 155_697
    assert loaded.encode("<i0><i3999><|traj_future_start|><|image_pad|><|answer_end|>") == [
        151_669, 155_668, 155_681, 151_655, 155_696
    ]


def test_unknown_token_and_id(tiny):
    with pytest.raises(InputError, match="no token '<|nothing|>'".replace("|", r"\|")):
        tiny.token_id("<|nothing|>")
    for bad in (-1, 4540):
        with pytest.raises(InputError, match=f"token id {bad} is not in"):
            tiny.decode([1, bad])


def test_padded_embedding_rows_have_no_text(tmp_path, tiny):
    tiny.save(tmp_path)
    language = dataclasses.replace(CONFIG.language, vocab_size=4608)
    padded = Tokenizer.from_directory(tmp_path, dataclasses.replace(CONFIG, language=language))
    assert padded.decode([4600, *tiny.encode("Stop."), 4607]) == "Stop."


@pytest.mark.torch
def test_transformers_reads_what_we_save(tiny, tmp_path):
    transformers = pytest.importorskip("transformers")
    tiny.save(tmp_path)
    for cls in (transformers.AutoTokenizer, transformers.PreTrainedTokenizerFast):
        theirs = cls.from_pretrained(tmp_path)
        assert (theirs.pad_token_id, theirs.eos_token_id) == (505, 507)
        assert theirs.padding_side == "left"
        for text in TEXTS:
            assert theirs.encode(text) == tiny.encode(text)
            assert theirs.decode(tiny.encode(text)) == tiny.decode(tiny.encode(text))


@pytest.mark.torch
def test_transformers_reads_classic_files_alike(classic_folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(classic_folder)
    ours = tokenizer_files.read_backend(classic_folder)
    assert isinstance(ours, tokenizers.Tokenizer)
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text).ids


def test_recorded_checkpoint(reference_dir):
    raw = json.loads((reference_dir / "tiny_checkpoint" / "config.json").read_text())
    folder = tokenizer_files.find_folder(reference_dir / "tiny_checkpoint")
    assert folder.name == raw["vlm_name_or_path"]
    recorded = json.loads((reference_dir / "prompt_structure.json").read_text())
    backend = tokenizer_files.read_backend(folder)
    for token, wanted in recorded["special_token_ids_tiny"].items():
        assert backend.token_to_id(token) in (wanted, None)
