"""The log file, TensorBoard event files as their format defines them, and Weights & Biases."""

import json
import struct
import sys
import types

import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.train.writers import JsonLines, TensorBoard, WeightsAndBiases, read_json_lines
from alpamayo_jax.train.writers import _masked_crc as masked_crc


class TestJsonLines:
    def test_lines(self, tmp_path):
        writer = JsonLines(tmp_path / "log.jsonl")
        writer.write(1, {"loss": 2.5, "nan": float("nan")})
        writer.write(2, {"loss": 1.5})
        lines = read_json_lines(tmp_path / "log.jsonl")  # readable while it is being written
        writer.close()
        assert [line["step"] for line in lines] == [1, 2]
        assert lines[1] == {"step": 2, "loss": 1.5}

    def test_going_on_drops_what_comes_after_and_what_was_cut_off(self, tmp_path):
        path = tmp_path / "log.jsonl"
        writer = JsonLines(path)
        for step in (10, 20, 30):
            writer.write(step, {"loss": step / 7})
        writer.close()
        whole = path.read_text()
        path.write_text(whole + '{"step": 40, "lo')
        writer = JsonLines(path, start=20)
        writer.write(30, {"loss": 30 / 7})
        writer.close()
        assert path.read_text() == whole

    def test_no_file(self, tmp_path):
        assert read_json_lines(tmp_path / "no.jsonl") == []


def read_records(path):
    """Payloads of a record file; every checksum is checked."""
    data, payloads = path.read_bytes(), []
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        payload, end = data[12 : 12 + size], 12 + size
        assert data[8:12] == masked_crc(data[:8])
        assert data[end : end + 4] == masked_crc(payload)
        payloads.append(payload)
        data = data[end + 4 :]
    return payloads


def read_fields(data):
    """[(number, value)] of a protocol buffer message."""

    def varint(data):
        value = shift = 0
        while True:
            byte, data = data[0], data[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, data

    fields = []
    while data:
        key, data = varint(data)
        if key & 7 == 0:
            value, data = varint(data)
        elif key & 7 == 2:
            size, data = varint(data)
            value, data = data[:size], data[size:]
        else:
            width, kind = {1: (8, "<d"), 5: (4, "<f")}[key & 7]
            value, data = struct.unpack(kind, data[:width])[0], data[width:]
        fields.append((key >> 3, value))
    return fields


class TestTensorBoard:
    def test_crc32c_of_known_bytes(self):
        """Test vector of RFC 3720: the checksum of 32 zero bytes is 0x8a9136aa."""
        crc = struct.unpack("<I", masked_crc(bytes(32)))[0]
        crc = (crc - 0xA282EAD8) & 0xFFFFFFFF
        assert (crc << 15 | crc >> 17) & 0xFFFFFFFF == 0x8A9136AA

    def test_events(self, tmp_path):
        writer = TensorBoard(tmp_path / "events", start=299)
        writer.write(300, {"loss": 0.25, "vlm/grad_norm": -1e9})
        writer.close()
        (path,) = (tmp_path / "events").iterdir()
        assert path.name.startswith("events.out.tfevents.")
        version, begin, event = (dict(read_fields(r)) for r in read_records(path))
        assert version[3] == b"brain.Event:2"
        assert begin[2] == 300 and read_fields(begin[7]) == [(1, 1)]  # SessionLog.START
        assert event[2] == 300 and event[1] >= version[1] > 1.6e9
        values = [dict(read_fields(value)) for _, value in read_fields(event[5])]
        assert values == [{1: b"loss", 2: 0.25}, {1: b"vlm/grad_norm", 2: -1e9}]

    def test_each_start_has_its_file_and_they_sort_by_time(self, tmp_path):
        for start in range(3):
            TensorBoard(tmp_path, start).close()
        names = sorted(path.name for path in tmp_path.iterdir())
        begins = [dict(read_fields(read_records(tmp_path / name)[1]))[2] for name in names]
        assert begins == [1, 2, 3]

    def test_tensorboard_reads_them(self, tmp_path):
        module = "tensorboard.backend.event_processing.event_accumulator"
        accumulator = pytest.importorskip(module).EventAccumulator(str(tmp_path))
        writer = TensorBoard(tmp_path)
        for step in (1, 2, 3):
            writer.write(step, {"loss": 1 / step})
        writer.close()
        writer = TensorBoard(tmp_path, start=2)
        writer.write(3, {"loss": 9.0})
        writer.close()
        found = [(e.step, e.value) for e in accumulator.Reload().Scalars("loss")]
        assert found == [(1, 1.0), (2, 0.5), (3, 9.0)]


class TestWeightsAndBiases:
    def test_missing_package(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ConfigError, match="wandb is not installed: pip install wandb"):
            WeightsAndBiases("project", tmp_path, {})

    def test_a_folder_is_one_run(self, tmp_path, monkeypatch):
        calls = []

        def init(**options):
            calls.append(options)
            log = lambda values, step: calls.append((step, values))  # noqa: E731
            return types.SimpleNamespace(log=log, finish=lambda: calls.append("finish"))

        monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
        for start in (0, 5):
            writer = WeightsAndBiases("project", tmp_path, {"seed": 1}, start)
            writer.write(start + 1, {"loss": 1.0})
            writer.close()
        first, *logged, _ = calls[:3]
        assert first["project"] == "project" and first["config"] == {"seed": 1}
        assert first["resume"] == "allow" and logged == [(1, {"loss": 1.0})]
        assert calls[3]["id"] == first["id"]
        json.dumps(first["config"])
