"""The safetensors format, against the safetensors package, and damaged files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from alpamayo_jax.convert.tensor_file import DTYPE_NAMES, FLOAT_DTYPES, read_header, write_file
from alpamayo_jax.types import InputError

RNG = np.random.default_rng(0)
TENSORS = {
    "kernel": RNG.standard_normal((5, 7), np.float32),
    "half": RNG.standard_normal((3, 2, 2)).astype(np.float16),
    "brain": RNG.standard_normal((4,)).astype(jnp.bfloat16),
    "scalar": np.float32(3.5).reshape(()),
    "empty": np.zeros((0, 3), np.float32),
}


def _write(path, tensors=TENSORS):
    specs = [(name, value.dtype, value.shape) for name, value in tensors.items()]
    write_file(path, specs, tensors.values(), {"format": "pt"})


def _raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    _write(path)
    entries = read_header(path)
    assert entries.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        got = entries[name].map()
        assert (got.dtype, got.shape) == (value.dtype, value.shape), name
        assert got.tobytes() == value.tobytes(), name


def test_the_package_reads_what_we_write(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {k: v for k, v in TENSORS.items() if k != "brain"}
    _write(path, tensors)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        for name, value in tensors.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)
    _write(path)
    with safetensors.safe_open(path, "np") as file:  # the types of all, bfloat16 included
        assert {n: file.get_slice(n).get_dtype() for n in file.keys()} == {
            n: DTYPE_NAMES[v.dtype] for n, v in TENSORS.items()
        }


def test_we_read_what_the_package_writes(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {k: np.ascontiguousarray(v) for k, v in TENSORS.items() if k != "brain"}
    safetensors.numpy.save_file(tensors | {"steps": np.arange(3)}, path)
    entries = read_header(path)
    assert entries["steps"].dtype == "I64" and "I64" not in FLOAT_DTYPES
    for name, value in tensors.items():
        assert entries[name].map().tobytes() == value.tobytes(), name


def _entry(dtype="F32", shape=(2,), span=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


DAMAGE = {
    "empty": (b"", b"", "cut off"),
    "garbage": (b"\xff" * 40, b"", "not JSON"),
    "not_json": (b"{]", b"", "not JSON"),
    "list": (b"[1]", b"", "not a JSON object"),
    "truncated": ({"a": _entry()}, b"\0" * 7, "cut off in the middle"),
    "trailing": ({"a": _entry()}, b"\0" * 9, "describes"),
    "overlap": ({"a": _entry(), "b": _entry(span=(4, 12))}, b"\0" * 12, "tensor b overlaps"),
    "gap": ({"a": _entry(), "b": _entry(span=(12, 20))}, b"\0" * 20, "tensor b leaves a gap"),
    "same_place": ({"a": _entry(), "b": _entry()}, b"\0" * 8, "tensor b overlaps"),
    "span": ({"a": _entry(shape=(3,))}, b"\0" * 8, "takes 12 bytes"),
    "unknown_type": ({"a": _entry("F4")}, b"\0" * 8, "unknown type F4"),
    "negative": ({"a": _entry(shape=(-2,))}, b"\0" * 8, "of a, has"),
    "boolean": ({"a": _entry(shape=(True, 2))}, b"\0" * 8, "of a, has"),
    "no_type": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8, "of a, has"),
    "not_an_entry": ({"a": 3}, b"", "of a, has"),
    "twice": (b'{"a":1,"a":2}', b"", "lists a more than once"),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_damage_is_named(tmp_path, kind):
    header, data, message = DAMAGE[kind]
    path = tmp_path / "x.safetensors"
    _raw(path, header, data)
    with pytest.raises(InputError, match=message) as error:
        read_header(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x01\x02", b"\x00" * 8, b"\xff" * 8 + b"{}"])
def test_header_length_is_checked(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a safetensors file, or cut off"):
        read_header(path)


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_header(tmp_path / "x.safetensors")


def test_writer_refuses_another_array(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="a: expected float32"):
        write_file(path, [("a", np.dtype(np.float32), (2,))], [np.zeros((3,), np.float32)], {})
    with pytest.raises(ValueError):
        write_file(path, [("a", np.dtype(np.float32), (2,))], [], {})
