"""A file is the old one or the new one."""

import os
import stat

import pytest

from alpamayo_jax.files import append_line, cut_torn_line, replacing, write_bytes


def test_folders_are_made_and_the_path_is_returned(tmp_path):
    path = write_bytes(tmp_path / "a" / "b" / "c.bin", b"\x00\xff")
    assert path == tmp_path / "a" / "b" / "c.bin"
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["c.bin"]


def test_a_text_path_does(tmp_path):
    assert write_bytes(str(tmp_path / "a"), b"").read_bytes() == b""


def test_others_can_read_it(tmp_path):
    assert stat.S_IMODE(write_bytes(tmp_path / "a", b"x").stat().st_mode) == 0o644


def test_the_new_file_replaces_the_old(tmp_path):
    write_bytes(tmp_path / "a", b"old and longer")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_another_writer_writes_appears_at_the_end(tmp_path):
    with replacing(tmp_path / "deep" / "film.mp4") as partial:
        assert partial.suffix == ".mp4" and partial.parent == tmp_path / "deep"
        partial.write_bytes(b"half")
        assert not (tmp_path / "deep" / "film.mp4").exists()
        partial.write_bytes(b"whole")
    assert os.listdir(tmp_path / "deep") == ["film.mp4"]
    assert (tmp_path / "deep" / "film.mp4").read_bytes() == b"whole"


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
        1 / 0
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_whatever_fails_the_old_file_stays(tmp_path, monkeypatch, step, error):
    write_bytes(tmp_path / "a", b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_is_not_written_over(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_no_bytes_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "held, kept",
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ntorn", b"whole\n"),
        (b"torn", b""),
        (b"a\n" + b"x" * 200_000, b"a\n"),  # longer than what is read at a time
        (b"y" * 70_000 + b"\n" + b"x" * 65_536, b"y" * 70_000 + b"\n"),
    ],
    ids=lambda value: str(len(value)),
)
def test_a_torn_last_line_is_cut_off(tmp_path, held, kept):
    path = tmp_path / "lines"
    path.write_bytes(held)
    with open(path, "a+b") as file:
        cut_torn_line(file)
        file.write(b"more\n")
    assert path.read_bytes() == kept + b"more\n"


def test_lines_are_added_whole(tmp_path):
    path = tmp_path / "runs" / "history.jsonl"
    append_line(path, '{"a": 1}')
    with open(path, "ab") as file:
        file.write(b'{"torn')  # a writer that died
    append_line(path, '{"b": 2}')
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n'
