"""Loading: exact values, every kind of damage, and placement."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from alpamayo_jax import sharding
from alpamayo_jax.config import ConfigError
from alpamayo_jax.convert import (
    hf_shapes,
    load_params,
    logical_axes,
    param_shapes,
    parameter_count,
    read_config,
    save_checkpoint,
)
from alpamayo_jax.convert.checkpoint_files import INDEX, SINGLE, tensor_entries
from alpamayo_jax.convert.table import flatten, parameters
from alpamayo_jax.presets import preset
from alpamayo_jax.types import InputError

TABLE = "vlm.model.language_model.embed_tokens.weight"
LAYER = "expert.layers.1.mlp.down_proj.weight"
FREQS = "action_in_proj.sinus.1.freqs"


def _load(directory):
    return load_params(directory, read_config(directory)[0])


def _tensors(directory: pathlib.Path) -> dict[str, np.ndarray]:
    return {name: np.array(entry.map()) for name, entry in tensor_entries(directory).items()}


def _rewrite(directory, change):
    """Applies `change` to the tensors and writes them with the safetensors package."""
    tensors = _tensors(directory)
    change(tensors)
    safetensors.numpy.save_file(tensors, directory / SINGLE)


def _split(directory, names_in_second=(TABLE, "expert.norm.weight")):
    """Two shards and an index instead of one file; returns the index."""
    tensors = _tensors(directory)
    files = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    first, second = files
    for name, tensor in tensors.items():
        files[second if name in names_in_second else first][name] = tensor
    for file, group in files.items():
        safetensors.numpy.save_file(group, directory / file)
    (directory / SINGLE).unlink()
    index = {"metadata": {}, "weight_map": {n: f for f, g in files.items() for n in g}}
    (directory / INDEX).write_text(json.dumps(index))
    return index


def _edit_index(directory, change):
    index = _split(directory)
    change(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index))


def _cut(directory, keep):
    content = (directory / SINGLE).read_bytes()
    (directory / SINGLE).write_bytes(
        content[:keep] if keep >= 0 else content[: len(content) + keep]
    )


def _header(directory, change):
    content = (directory / SINGLE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (directory / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def _set(key, make):
    return lambda tensors: tensors.__setitem__(key, make(tensors[key]))


def _poke(value):
    def change(tensor):
        tensor = tensor.copy()
        tensor.reshape(-1)[3] = value
        return tensor

    return change


def _shift(name, amount):
    def change(header):
        header[name]["data_offsets"] = [x + amount for x in header[name]["data_offsets"]]

    return change


# kind -> (what happens to the directory, what the error must say)
DAMAGE = {
    "missing": (lambda d: _rewrite(d, lambda t: t.pop(TABLE)), [TABLE, "missing"]),
    "missing_layer": (lambda d: _rewrite(d, lambda t: t.pop(LAYER)), [LAYER, "missing"]),
    "extra": (lambda d: _rewrite(d, lambda t: t.update(x=t[TABLE])), ["tensor x", "unexpected"]),
    "renamed": (
        lambda d: _rewrite(d, lambda t: t.update({"embed.weight": t.pop(TABLE)})),
        [f"{TABLE} is missing", "embed.weight in", "2 place(s)"],
    ),
    "misshaped": (
        lambda d: _rewrite(d, _set(LAYER, lambda x: x[:-1].copy())), [LAYER, "expected ["]),
    "transposed": (
        lambda d: _rewrite(d, _set(LAYER, lambda x: x.T.copy())), [LAYER, "expected ["]),
    "flattened": (
        lambda d: _rewrite(d, _set(TABLE, lambda x: x.reshape(-1))), [TABLE, "expected ["]),
    "integers": (lambda d: _rewrite(d, _set(TABLE, lambda x: x.astype(np.int64))), [TABLE, "I64"]),
    "doubles": (lambda d: _rewrite(d, _set(TABLE, lambda x: x.astype(np.float64))), [TABLE, "F64"]),
    "one_half": (lambda d: _rewrite(d, _set(LAYER, lambda x: x.astype(np.float16))),
                 [LAYER, "F16, expected F32 as the rest of expert"]),
    "nan": (lambda d: _rewrite(d, _set(LAYER, _poke(np.nan))), [LAYER, "NaN or infinite"]),
    "infinite": (lambda d: _rewrite(d, _set(TABLE, _poke(-np.inf))), [TABLE, "NaN or infinite"]),
    "buffer_shape": (
        lambda d: _rewrite(d, _set(FREQS, lambda x: x.reshape(-1))), [FREQS, "expected [1, "]),
    "buffer_value": (lambda d: _rewrite(d, _set(FREQS, lambda x: x * 2)), [FREQS, "as configured"]),
    "buffer_constant": (
        lambda d: _rewrite(d, _set("action_space.accel_std", lambda x: np.full((), 0.5, "f4"))),
        ["action_space.accel_std", "is 0.5, expected "],
    ),
    "empty_file": (lambda d: _cut(d, 0), [SINGLE, "cut off"]),
    "cut_in_header": (lambda d: _cut(d, 100), [SINGLE, "cut off"]),
    "cut_in_data": (lambda d: _cut(d, -1000), [SINGLE, "cut off in the middle"]),
    "cut_by_one_byte": (lambda d: _cut(d, -1), [SINGLE, "cut off in the middle"]),
    "longer": (
        lambda d: (d / SINGLE).open("ab").write(b"\0" * 8), [SINGLE, "describes"]),
    "garbage": (
        lambda d: (d / SINGLE).write_bytes(b"\xa7\x31" * 999), [SINGLE, "not a safetensors"]),
    "huge_header": (
        lambda d: (d / SINGLE).write_bytes(b"\xff" * 8 + (d / SINGLE).read_bytes()),
        [SINGLE, "announce a header"],
    ),
    "web_page": (
        lambda d: (d / SINGLE).write_text("<html>Denied</html>" * 9), [SINGLE, "safetensors"]),
    "overlap": (lambda d: _header(d, _shift(LAYER, -4)), [LAYER, "overlaps"]),
    "gap": (lambda d: _header(d, _shift(LAYER, 4)), ["leaves a gap"]),
    "offsets_outside": (lambda d: _header(d, _shift(LAYER, 10**9)), ["gap"]),
    "no_weights": (lambda d: (d / SINGLE).unlink(), ["no weight file"]),
    "pickle_only": (
        lambda d: (d / SINGLE).rename(d / "pytorch_model.bin"),
        ["pytorch_model.bin", "never read", "safetensors"],
    ),
    "no_directory": (lambda d: d.rename(d.parent / "moved"), ["does not exist"]),
    "no_index": (lambda d: (_split(d), (d / INDEX).unlink()), ["neither", "model-00001-of-00002"]),
    "both": (
        lambda d: (d / INDEX).write_text('{"weight_map": {}}'), ["both", "remove the one"]),
    "empty_index": (lambda d: _edit_index(d, lambda m: m.clear()), ["weight_map"]),
    "broken_index": (
        lambda d: (_split(d), (d / INDEX).write_text('{"weight_map": {"a')), [INDEX, "JSON"]),
    "absent_shard": (
        lambda d: (_split(d), (d / "model-00002-of-00002.safetensors").unlink()),
        ["not there", "model-00002-of-00002.safetensors"],
    ),
    "wrong_shard": (
        lambda d: _edit_index(d, lambda m: m.update({TABLE: m[LAYER]})),
        [TABLE, "the index says model-00001-of-00002.safetensors"],
    ),
    "unlisted_tensor": (
        lambda d: _edit_index(d, lambda m: m.pop(LAYER)), [LAYER, "does not list it"]),
    "listed_nowhere": (
        lambda d: _edit_index(d, lambda m: m.update(ghost=m[TABLE])),
        ["ghost", "none of the shards"],
    ),
    "duplicate": (
        lambda d: (
            _split(d),
            safetensors.numpy.save_file(
                {n: np.zeros((2, 2), np.float32) for n in (TABLE, LAYER)},
                d / "model-00002-of-00002.safetensors",
            ),
        ),
        [LAYER, "is in both"],
    ),
    "escape": (
        lambda d: _edit_index(d, lambda m: m.update({TABLE: "../../secret.safetensors"})),
        ["secret", "beside the index"],
    ),
    "absolute": (
        lambda d: _edit_index(d, lambda m: m.update({TABLE: "/etc/x.safetensors"})),
        ["/etc/x", "beside the index"],
    ),
    "not_a_name": (lambda d: _edit_index(d, lambda m: m.update({TABLE: 3})), ["is 3, expected"]),
    "cut_shard": (
        lambda d: (
            _split(d),
            os.truncate(d / "model-00001-of-00002.safetensors", 5000),
        ),
        ["model-00001-of-00002.safetensors", "cut off"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_damage_is_named(checkpoint, kind):
    config, _ = read_config(checkpoint)
    if kind.startswith("buffer") and FREQS not in tensor_entries(checkpoint):
        pytest.skip("this checkpoint has no buffers")
    damage, words = DAMAGE[kind]
    damage(checkpoint)
    with pytest.raises(InputError) as error:
        load_params(checkpoint, config)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_a_shard_that_the_index_forgets_is_missing(checkpoint):
    index = _split(checkpoint)["weight_map"]
    kept = {name: file for name, file in index.items() if file.startswith("model-00001")}
    (checkpoint / INDEX).write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(InputError, match=f"{TABLE} is missing"):
        _load(checkpoint)


def test_every_offender_is_listed_once(checkpoint):
    def change(tensors):
        tensors.pop(TABLE)
        tensors["surplus"] = np.zeros((2,), np.float32)
        tensors[LAYER] = tensors[LAYER][:-2].copy()
        name = "vlm.model.visual.pos_embed.weight"
        tensors[name] = tensors[name].astype(np.int32)

    _rewrite(checkpoint, change)
    with pytest.raises(InputError) as error:
        _load(checkpoint)
    lines = str(error.value).splitlines()
    assert "4 place(s)" in lines[0] and len(lines) == 5
    for name in (TABLE, "surplus", LAYER, "pos_embed"):
        assert sum(name in line for line in lines) == 1, name


def test_values_and_layout(checkpoint):
    config, _ = read_config(checkpoint)
    leaves = flatten(load_params(checkpoint, config))
    stored = _tensors(checkpoint)
    assert sum(leaf.size for leaf in leaves.values()) == parameter_count(config)
    embedding = leaves["vlm", "language_model", "embed_tokens", "embedding"]
    np.testing.assert_array_equal(embedding, stored[TABLE])
    head = "vlm.lm_head.weight"
    if not config.language.tie_word_embeddings:
        np.testing.assert_array_equal(leaves["vlm", "lm_head", "kernel"], stored[head].T)
    down = leaves["expert", "layers", "mlp", "down_proj", "kernel"]
    np.testing.assert_array_equal(down[1], stored[LAYER].T)
    patches = stored["vlm.model.visual.patch_embed.proj.weight"]
    kernel = leaves["vlm", "visual", "patch_embed", "kernel"]
    np.testing.assert_array_equal(kernel, patches.reshape(len(patches), -1).T)
    tap = leaves["vlm", "visual", "deepstack_merger_list", "norm", "scale"]
    np.testing.assert_array_equal(
        tap[-1],
        stored[f"vlm.model.visual.deepstack_merger_list.{len(tap) - 1}.norm.weight"],
    )


def test_shards_equal_one_file(checkpoint):
    whole = flatten(_load(checkpoint))
    half = [name for i, name in enumerate(tensor_entries(checkpoint)) if i % 2]
    _split(checkpoint, half)
    for path, leaf in flatten(_load(checkpoint)).items():
        np.testing.assert_array_equal(leaf, whole[path], err_msg=str(path))


def test_buffers_may_be_absent(checkpoint):
    config, _ = read_config(checkpoint)
    whole = flatten(load_params(checkpoint, config))
    _rewrite(checkpoint, lambda t: [t.pop(n) for n in set(t) - set(hf_shapes(config))])
    assert flatten(load_params(checkpoint, config)).keys() == whole.keys()


def test_damage_can_be_inspected(checkpoint):
    _rewrite(checkpoint, _set(LAYER, _poke(np.nan)))
    config, _ = read_config(checkpoint)
    params = load_params(checkpoint, config, check_finite=False)
    assert np.isnan(params["expert"]["layers"]["mlp"]["down_proj"]["kernel"]).sum() == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", jnp.float32])
def test_types_can_be_changed(checkpoint, dtype):
    config, _ = read_config(checkpoint)
    exact = flatten(load_params(checkpoint, config))
    for path, leaf in flatten(load_params(checkpoint, config, dtype=dtype)).items():
        assert leaf.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(
            leaf, np.array(exact[path]).astype(leaf.dtype), err_msg=str(path)
        )


def test_a_cast_that_overflows_is_named(checkpoint):
    _rewrite(checkpoint, _set(LAYER, _poke(1e30)))
    with pytest.raises(InputError, match=LAYER):
        load_params(checkpoint, read_config(checkpoint)[0], dtype="float16")


def test_progress_reaches_the_end(checkpoint):
    config, _ = read_config(checkpoint)
    seen = []
    load_params(checkpoint, config, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == len(parameters(config))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (4 * parameter_count(config),) * 2


def _shardings(config, mesh):
    try:
        return sharding.param_shardings(
            logical_axes(config), param_shapes(config), mesh, sharding.AxisRules()
        )
    except ConfigError as error:
        pytest.skip(f"this checkpoint does not divide over the mesh: {error}")


@pytest.mark.parametrize("sizes", [
    dict(fsdp=8), dict(fsdp=2, tensor=4), dict(data=2, fsdp=2, tensor=2), dict(data=8, fsdp=1),
], ids=str)  # fmt: skip
def test_straight_onto_a_mesh(checkpoint, sizes):
    config, _ = read_config(checkpoint)
    mesh = sharding.make_mesh(**sizes)
    shardings = _shardings(config, mesh)
    whole = flatten(load_params(checkpoint, config))
    placed = flatten(load_params(checkpoint, config, shardings=shardings))
    wanted = flatten(shardings)
    for path, leaf in placed.items():
        assert leaf.sharding == wanted[path], path
        np.testing.assert_array_equal(leaf, whole[path], err_msg=str(path))
    kernel = placed["expert", "layers", "mlp", "up_proj", "kernel"]
    parts = mesh.shape["fsdp"] * mesh.shape["tensor"]
    assert kernel.addressable_shards[0].data.size * parts == kernel.size


def test_nan_is_found_on_a_mesh(checkpoint):
    _rewrite(checkpoint, _set(LAYER, _poke(np.nan)))
    config, _ = read_config(checkpoint)
    shardings = _shardings(config, sharding.make_mesh(fsdp=8))
    with pytest.raises(InputError, match=LAYER):
        load_params(checkpoint, config, shardings=shardings)


def test_shardings_of_another_tree(checkpoint):
    config, _ = read_config(checkpoint)
    with pytest.raises(ValueError, match="expert/norm/scale"):
        load_params(checkpoint, config, shardings={"vlm": {}})


def test_loaded_parameters_can_be_donated(checkpoint):
    """The arrays share memory with nothing that lives on, so a train step may reuse them."""
    path = ("expert", "layers", "mlp", "down_proj", "kernel")
    leaf = flatten(_load(checkpoint))[path]
    before = np.array(leaf)
    doubled = jax.jit(lambda x: x + x, donate_argnums=0)(leaf)
    np.testing.assert_array_equal(doubled, 2 * before)
    np.testing.assert_array_equal(flatten(_load(checkpoint))[path], before)


_MEASURE = """
import os, sys
import jax
from alpamayo_jax import sharding
from alpamayo_jax.convert import (
    load_params, logical_axes, param_shapes, parameter_count, read_config)

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

directory, on_mesh = sys.argv[1], sys.argv[2] == "mesh"
config, _ = read_config(directory)
shardings = None
if on_mesh:
    mesh = sharding.make_mesh(fsdp=4, tensor=2)
    shardings = sharding.param_shardings(
        logical_axes(config), param_shapes(config), mesh, sharding.AxisRules())
jax.block_until_ready(jax.device_put(1.0))
before = peak()
params = load_params(directory, config, shardings=shardings)
jax.block_until_ready(params)
print(peak() - before - parameter_count(config) * 4 / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("placement", ["one_device", "mesh"])
def test_memory_is_parameters_and_at_most_one_shard(tmp_path, large_checkpoint, placement):
    """Measured: 2 to 3 MiB above 338 MiB of parameters; a shard here is 57 MiB."""
    shards = [p.stat().st_size for p in large_checkpoint.glob("*.safetensors")]
    assert len(shards) > 3
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(large_checkpoint), placement],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(result.stdout) < max(shards) / 2**20


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory):
    """338 MiB of parameters in shards of at most 57 MiB."""
    config = preset("tiny")
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(
            config.vision, out_hidden_size=512, hidden_size=256, intermediate_size=1024
        ),
        language=dataclasses.replace(
            config.language, hidden_size=512, num_layers=16, num_heads=8, head_dim=64,
            intermediate_size=2048, mrope_section=(12, 10, 10),
        ),
        expert=dataclasses.replace(
            config.expert, hidden_size=256, num_heads=8, intermediate_size=1024
        ),
    )  # fmt: skip
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), param_shapes(config))
    directory = tmp_path_factory.mktemp("large") / "checkpoint"
    save_checkpoint(directory, config, params, max_shard_bytes=60_000_000)
    return directory
