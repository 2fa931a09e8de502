"""Saving: byte-equal round trips, shards, and nothing lost when something fails."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from convert_samples import random_params, small_config

from alpamayo_jax import sharding
from alpamayo_jax.config import PrecisionConfig
from alpamayo_jax.convert import (
    buffers,
    companion_files,
    hf_shapes,
    load_params,
    logical_axes,
    param_shapes,
    read_config,
    save_checkpoint,
    weights,
)
from alpamayo_jax.convert.checkpoint_files import INDEX, SINGLE, tensor_entries
from alpamayo_jax.convert.table import flatten, nest
from alpamayo_jax.types import InputError


def _bytes(directory):
    """name -> (type, shape, bytes) of every tensor."""
    return {
        name: (entry.dtype, entry.shape, entry.map().tobytes())
        for name, entry in tensor_entries(directory).items()
    }


def _files(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes()
            for p in directory.rglob("*") if p.is_file()}  # fmt: skip


def test_load_save_load_is_byte_equal(checkpoint, tmp_path):
    config, raw = read_config(checkpoint)
    params = load_params(checkpoint, config)
    extra = companion_files(checkpoint)
    kept = [name for name in buffers.buffer_values(config) if name in tensor_entries(checkpoint)]
    save_checkpoint(tmp_path / "a", config, params, raw=raw, extra_files=extra, buffer_names=kept)
    assert read_config(tmp_path / "a") == (config, raw)
    assert _bytes(tmp_path / "a") == _bytes(checkpoint)
    for name in extra:
        written = (tmp_path / "a" / name).read_bytes()
        if name.endswith("/config.json"):  # written anew, with the same content
            assert json.loads(written) == json.loads((checkpoint / name).read_bytes())
        else:
            assert written == (checkpoint / name).read_bytes()
    again = load_params(tmp_path / "a", config)
    save_checkpoint(tmp_path / "b", config, again, raw=raw, extra_files=extra, buffer_names=kept)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_buffers_of_the_releases(tmp_path):
    config = small_config()
    save_checkpoint(tmp_path / "one", config, random_params(config))
    names = set(hf_shapes(config))
    assert set(tensor_entries(tmp_path / "one")) == names | set(buffers.buffer_values(config))
    later = dataclasses.replace(config, release="alpamayo1_5")
    save_checkpoint(tmp_path / "later", later, random_params(config))
    assert set(tensor_entries(tmp_path / "later")) == names
    assert read_config(tmp_path / "later")[0] == later


@pytest.mark.parametrize("limit", [1, 50_000, 10**9])
def test_shards(tmp_path, made_checkpoint, limit):
    config, raw = read_config(made_checkpoint)
    params = load_params(made_checkpoint, config)
    save_checkpoint(tmp_path / "x", config, params, raw=raw, max_shard_bytes=limit)
    assert _bytes(tmp_path / "x") == _bytes(made_checkpoint)
    files = sorted(p.name for p in (tmp_path / "x").glob("*.safetensors"))
    if limit == 10**9:
        assert files == [SINGLE] and not (tmp_path / "x" / INDEX).exists()
        return
    index = json.loads((tmp_path / "x" / INDEX).read_text())
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == sum(
        len(b) for *_, b in _bytes(tmp_path / "x").values()
    )
    if limit == 1:
        assert len(files) == len(index["weight_map"])


def test_types_are_kept_and_aligned(tmp_path):
    config = small_config(precision=PrecisionConfig("bfloat16", "bfloat16", True))
    flat = flatten(random_params(config, jnp.bfloat16))
    flat = {p: x.astype(np.float32) if p[0] == "expert" else x for p, x in flat.items()}
    save_checkpoint(tmp_path / "x", config, nest(flat))
    for path, leaf in flatten(load_params(tmp_path / "x", config)).items():
        assert leaf.dtype == flat[path].dtype
        np.testing.assert_array_equal(leaf, flat[path])
    for name, entry in tensor_entries(tmp_path / "x").items():
        assert entry.dtype == ("F32" if name.startswith("expert.") else "BF16"), name
        assert entry.offset % (4 if entry.dtype == "F32" else 2) == 0, name
    freqs = tensor_entries(tmp_path / "x")["action_in_proj.sinus.0.freqs"].map()
    assert freqs.astype(np.float32)[0, 1] == 1.671875


def test_the_package_reads_it(made_checkpoint):
    with safetensors.safe_open(made_checkpoint / SINGLE, "np") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses files without it
        assert set(file.keys()) == set(tensor_entries(made_checkpoint))


@pytest.mark.parametrize(
    "sizes", [dict(fsdp=8), dict(fsdp=2, tensor=4), dict(data=8, fsdp=1)], ids=str
)
def test_sharded_parameters_save_the_same_bytes(tmp_path, made_checkpoint, sizes):
    config, raw = read_config(made_checkpoint)
    shardings = sharding.param_shardings(
        logical_axes(config),
        param_shapes(config),
        sharding.make_mesh(**sizes),
        sharding.AxisRules(),
    )
    params = load_params(made_checkpoint, config, shardings=shardings)
    save_checkpoint(tmp_path / "x", config, params, raw=raw)
    assert _bytes(tmp_path / "x") == _bytes(made_checkpoint)


def test_layers_may_be_sharded(tmp_path, made_checkpoint):
    config, raw = read_config(made_checkpoint)
    mesh, rules = sharding.make_mesh(fsdp=2, tensor=2, data=2), sharding.AxisRules()
    shardings = flatten(sharding.param_shardings(
        logical_axes(config), param_shapes(config), mesh, rules
    ))  # fmt: skip
    for path, placed in shardings.items():
        if path[:2] == ("expert", "layers") and "fsdp" not in str(placed.spec):
            spec = jax.sharding.PartitionSpec("fsdp", *placed.spec[1:])
            shardings[path] = jax.sharding.NamedSharding(mesh, spec)
    params = load_params(made_checkpoint, config, shardings=nest(shardings))
    save_checkpoint(tmp_path / "x", config, params, raw=raw)
    assert _bytes(tmp_path / "x") == _bytes(made_checkpoint)


def test_a_checkpoint_is_replaced_whole(tmp_path):
    config = small_config()
    target = tmp_path / "x"
    save_checkpoint(target, config, random_params(config), max_shard_bytes=50_000,
                    extra_files={"merges.txt": b"old", "notes/a.txt": b"old"})  # fmt: skip
    new = random_params(config, seed=1)
    save_checkpoint(target, config, new)
    assert sorted(_files(target)) == ["config.json", SINGLE, "vlm/config.json"]
    head = flatten(load_params(target, config))["vlm", "lm_head", "kernel"]
    np.testing.assert_array_equal(head, new["vlm"]["lm_head"]["kernel"])
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("point", ["writing", "moving"])
def test_a_failure_loses_nothing(tmp_path, monkeypatch, point):
    config = small_config()
    target = tmp_path / "x"
    save_checkpoint(target, config, random_params(config))
    before = _files(target)
    if point == "writing":
        write, calls = weights.write_file, []

        def fail(path, *args):
            calls.append(path)
            if len(calls) == 3:
                path.write_bytes(b"half")
                raise OSError("disk full")
            write(path, *args)

        monkeypatch.setattr(weights, "write_file", fail)
    else:
        replace = os.replace

        def fail(source, destination):
            if str(destination) == str(target.resolve()) and ".old" not in str(source):
                raise OSError("disk full")
            replace(source, destination)

        monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(target, config, random_params(config, seed=1), max_shard_bytes=50_000)
    assert _files(target) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def _nan(params):
    params["expert"]["norm"]["scale"][2] = np.nan


def _drop(params):
    del params["expert"]["norm"]


def _add(params):
    params["lora"] = {"a": np.zeros((2,), np.float32)}


def _reshape(params):
    params["expert"]["norm"]["scale"] = np.zeros((3,), np.float32)


def _integers(params):
    params["expert"]["norm"]["scale"] = params["expert"]["norm"]["scale"].astype(np.int32)


def _mix(params):
    params["expert"]["norm"]["scale"] = params["expert"]["norm"]["scale"].astype(np.float16)


@pytest.mark.parametrize("change, message", [
    (_nan, "expert/norm/scale .*NaN"), (_drop, "expert/norm/scale is missing"),
    (_add, "lora/a is unexpected"), (_reshape, r"expert/norm/scale is \[3\], expected \[24\]"),
    (_integers, "expert/norm/scale is int32"), (_mix, "one module has one type"),
])  # fmt: skip
def test_parameters_that_do_not_fit(tmp_path, change, message):
    config = small_config()
    params = random_params(config)
    change(params)
    with pytest.raises(InputError, match=message):
        save_checkpoint(tmp_path / "x", config, params)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "config.json", "model.safetensors", "a\\b", ".", INDEX]
)
def test_names_of_extra_files(tmp_path, name):
    config = small_config()
    with pytest.raises(InputError, match="extra file"):
        save_checkpoint(tmp_path / "x", config, random_params(config), extra_files={name: b""})
    assert not list(tmp_path.iterdir())


def test_other_directories_are_left_alone(tmp_path):
    config = small_config()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not a checkpoint, so not replaced"):
        save_checkpoint(tmp_path / "mine", config, random_params(config))
    with pytest.raises(InputError, match="is a file"):
        save_checkpoint(tmp_path / "mine" / "thesis.txt", config, random_params(config))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_tied_models(tmp_path):
    config = small_config()
    language = dataclasses.replace(config.language, tie_word_embeddings=True)
    config = dataclasses.replace(config, language=language)
    save_checkpoint(tmp_path / "x", config, random_params(config))
    assert "vlm.lm_head.weight" not in tensor_entries(tmp_path / "x")
    assert read_config(tmp_path / "x")[0] == config
    # Where the backbone's file does not say, the weights do.
    path = tmp_path / "x" / "vlm" / "config.json"
    data = json.loads(path.read_text())
    del data["tie_word_embeddings"]
    path.write_text(json.dumps(data))
    assert read_config(tmp_path / "x")[0] == config
