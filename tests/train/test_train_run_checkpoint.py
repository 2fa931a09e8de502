"""Checkpoints: what comes back, what is kept, and what happens when one is damaged."""

import json
import logging as std_logging
import pathlib
import shutil

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sharding import make_mesh
from alpamayo_jax.train.checkpoint import Checkpoints, hash_of
from alpamayo_jax.train.checksums import checksums
from alpamayo_jax.types import InputError
from small_runs import assert_same_bits

# Orbax leaves tasks behind when it cannot read a file; Python says so when it collects them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONFIG = {"stage": {"steps": 10, "parts": ("a", "b")}, "seed": 0}


def make_state(number: int) -> dict:
    rng = np.random.default_rng(number)
    params = {"layers": {"kernel": jnp.asarray(rng.standard_normal((4, 8, 16)), jnp.float32)}}
    params["bias"] = jnp.asarray(rng.standard_normal(6), jnp.bfloat16)
    state = {"params": params, "opt": optax.adam(1e-3).init(params), "step": jnp.int32(number)}
    return jax.device_put(state, jax.devices()[0])


def describe(state):
    def shape(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

    return jax.tree.map(shape, state)


def save(checkpoints, step, loss=1.0, **options):
    options = {"data": {"next": step}, "rng": jax.random.key(step)} | options
    checkpoints.save(step, make_state(step), loss=loss, **options)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Three checkpoints."""
    checkpoints = Checkpoints(tmp_path / "run", config=CONFIG, keep_last=3)
    for step in (1, 2, 3):
        save(checkpoints, step)
    checkpoints.close()
    return tmp_path / "run"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """As `folder`, to copy from."""
    path = tmp_path_factory.mktemp("kept") / "run"
    checkpoints = Checkpoints(path, config=CONFIG, keep_last=3)
    for step in (1, 2, 3):
        save(checkpoints, step)
    checkpoints.close()
    return path


class TestChecksums:
    def test_any_bit_of_any_element_counts(self):
        array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
        before = checksums({"x": jnp.asarray(array)})["x"]
        for position in range(0, 60, 7):
            for bit in (0, 13, 31):
                changed = array.copy()
                changed.reshape(-1).view(np.uint32)[position] ^= np.uint32(1 << bit)
                assert checksums({"x": jnp.asarray(changed)})["x"] != before

    def test_exchanged_elements_count(self):
        a = checksums({"x": jnp.asarray([1.0, 2.0, 3.0])})
        assert a != checksums({"x": jnp.asarray([1.0, 3.0, 2.0])})

    def test_they_are_those_of_the_definition(self):
        array = np.arange(12, dtype=np.int32).reshape(3, 4) - 5
        factors = np.arange(12, dtype=np.uint64) * 2 * 1_327_217_885 + 1
        expected = int((array.reshape(-1).view(np.uint32) * factors).sum() % 2**32)
        assert checksums({"x": jnp.asarray(array)}) == {"x": expected}

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8, jnp.bool_, jnp.float16, jnp.uint32])
    def test_types(self, dtype):
        zeros, ones = jnp.zeros((2, 3), dtype), jnp.zeros((2, 3), dtype).at[1, 2].set(1)
        assert checksums({"x": zeros}) == {"x": 0}
        assert checksums({"x": ones})["x"] != 0

    def test_scalars(self):
        assert checksums({"x": jnp.int32(7)}) == {"x": 7}

    def test_the_split_over_devices_does_not_matter(self):
        array = jnp.asarray(np.random.default_rng(0).standard_normal((8, 4)), jnp.float32)
        mesh = make_mesh(data=1, fsdp=4, tensor=2)
        spec = PartitionSpec("fsdp", "tensor")
        split = jax.device_put(array, NamedSharding(mesh, spec))
        assert checksums({"x": split}) == checksums({"x": array})


class TestRestore:
    def test_everything_comes_back(self, folder):
        checkpoints = Checkpoints(folder, config=CONFIG)
        resumed = checkpoints.restore(describe(make_state(0)))
        assert_same_bits(resumed.state, make_state(3))
        assert (resumed.step, resumed.data) == (3, {"next": 3})
        np.testing.assert_array_equal(
            jax.random.normal(resumed.rng, 4), jax.random.normal(jax.random.key(3), 4)
        )

    def test_nothing_there(self, tmp_path):
        assert Checkpoints(tmp_path / "new", config=CONFIG).restore(describe(make_state(0))) is None

    def test_onto_another_mesh_and_back(self, folder, tmp_path):
        """One device -> 2 x 2 x 2 -> 8: always the same numbers, where they were asked for."""

        def on(mesh, tensor):
            def place(leaf):
                spec = PartitionSpec(None, "fsdp", tensor) if leaf.ndim == 3 else PartitionSpec()
                where = NamedSharding(mesh, spec)
                return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

            return jax.tree.map(place, make_state(0))

        first = on(make_mesh(data=2, fsdp=2, tensor=2), "tensor")
        state = Checkpoints(folder, config=CONFIG).restore(first).state
        kernel = state["params"]["layers"]["kernel"]
        assert kernel.sharding.spec == PartitionSpec(None, "fsdp", "tensor")
        assert_same_bits(state, make_state(3))

        sharded = Checkpoints(tmp_path / "sharded", config=CONFIG)
        sharded.save(3, state, data={}, rng=jax.random.key(0), loss=0.0, wait=True)
        second = on(make_mesh(data=1, fsdp=8), None)
        state = sharded.restore(second).state
        assert len(state["params"]["layers"]["kernel"].addressable_shards) == 8
        assert_same_bits(state, make_state(3))

    def test_a_step_that_is_there_is_kept(self, folder):
        checkpoints = Checkpoints(folder, config=CONFIG, keep_last=3)
        save(checkpoints, 3, data={"next": 99}, wait=True)
        assert checkpoints.restore(describe(make_state(0))).data == {"next": 3}

    def test_an_unfinished_checkpoint_does_not_exist(self, folder):
        shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp")
        checkpoints = Checkpoints(folder, config=CONFIG)
        assert checkpoints.restore(describe(make_state(0))).step == 3
        save(checkpoints, 4, wait=True)
        assert checkpoints.restore(describe(make_state(0))).step == 4

    def test_saving_does_not_wait_and_keeps_the_values_of_the_moment(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "run", config=CONFIG)
        bump = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
        state = make_state(5)
        checkpoints.save(5, state, data={}, rng=jax.random.key(0), loss=0.0)
        for _ in range(20):
            state = bump(state)  # writes over the memory of the state that is being saved
        assert_same_bits(checkpoints.restore(describe(make_state(0))).state, make_state(5))


    def test_an_iterator_that_goes_on_meanwhile_changes_nothing(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "run", config=CONFIG, keep_last=3)
        queue = list(range(100_000))  # takes a while to write
        save(checkpoints, 1, data={"queue": queue})
        queue.clear()
        checkpoints.close()
        resumed = Checkpoints(tmp_path / "run", config=CONFIG).restore(describe(make_state(0)))
        assert resumed.data == {"queue": list(range(100_000))}


class TestConfiguration:
    def test_another_configuration_is_refused_by_name(self, folder):
        other = {"stage": {"steps": 20, "parts": ("a", "b")}, "seed": 0, "new": 1}
        with pytest.raises(ConfigError, match="new was absent, is 1; stage.steps was 10, is 20"):
            Checkpoints(folder, config=other).restore(describe(make_state(0)))
        assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]

    def test_tuples_and_lists_are_the_same(self, folder):
        config = json.loads(json.dumps(CONFIG))
        assert Checkpoints(folder, config=config).restore(describe(make_state(0))).step == 3

    def test_hashes(self):
        assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 1, "b": 3})

    @pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_best": -1}])
    def test_at_least_one_is_kept(self, tmp_path, options):
        with pytest.raises(ConfigError, match="is low"):
            Checkpoints(tmp_path, config={}, **options)


class TestKept:
    def test_the_newest_and_the_best(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "run", config=CONFIG, keep_last=2, keep_best=1)
        for step, loss in enumerate((3.0, 1.0, 2.0, 5.0, 4.0), 1):
            save(checkpoints, step, loss, wait=True)
        assert checkpoints.steps() == [2, 4, 5]
        # The best is known again when the run goes on.
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path / "run", config=CONFIG, keep_last=2, keep_best=1)
        save(checkpoints, 6, 6.0, wait=True)
        assert checkpoints.steps() == [2, 5, 6]
        save(checkpoints, 7, 0.5, wait=True)
        save(checkpoints, 8, 7.0, wait=True)
        assert checkpoints.steps() == [7, 8]

    def test_only_the_newest(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "run", config=CONFIG, keep_last=1, keep_best=0)
        for step in (1, 2, 3):
            save(checkpoints, step, float(step), wait=True)
        assert checkpoints.steps() == [3]


def files_of(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class TestDamage:
    @pytest.mark.parametrize("harm", [flip, cut, pathlib.Path.unlink])
    def test_any_file_of_the_newest(self, kept, tmp_path, harm):
        """The newest exactly as saved, or the one before it; then the run goes on."""
        fell_back = 0
        for number, file in enumerate(files_of(kept / "3")):
            run = tmp_path / str(number)
            shutil.copytree(kept, run)
            harm(run / file.relative_to(kept))
            checkpoints = Checkpoints(run, config=CONFIG, keep_last=3)
            resumed = checkpoints.restore(describe(make_state(0)))
            assert resumed.step in (2, 3), file
            assert_same_bits(resumed.state, make_state(resumed.step))
            assert resumed.data == {"next": resumed.step}
            if resumed.step == 2:
                fell_back += 1
                assert checkpoints.steps() == [1, 2]
                assert [p.name for p in (tmp_path / f"{number}-damaged").iterdir()] == ["3"]
                save(checkpoints, 3, wait=True)
                assert checkpoints.restore(describe(make_state(0))).step == 3
            checkpoints.close()
        assert fell_back >= 3  # at least the index, the description and the arrays matter

    def test_it_is_reported_by_name(self, folder):
        said = []
        handler = std_logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.get_absl_logger().addHandler(handler)
        try:
            for file in files_of(folder / "3"):
                cut(file)
            Checkpoints(folder, config=CONFIG).restore(describe(make_state(0)))
        finally:
            logging.get_absl_logger().removeHandler(handler)
        assert any(f"checkpoint {folder / '3'} is damaged" in line for line in said)
        assert any(f"moved it to {folder}-damaged/3; going on" in line for line in said)

    def test_damaged_twice(self, folder):
        for _ in range(2):
            (folder / "3" / "about" / "metadata").write_text("{}")
            checkpoints = Checkpoints(folder, config=CONFIG, keep_last=3)
            assert checkpoints.restore(describe(make_state(0))).step == 2
            save(checkpoints, 3, wait=True)
            checkpoints.close()
        damaged = folder.with_name("run-damaged")
        assert sorted(path.name for path in damaged.iterdir()) == ["3", "3-1"]

    def test_a_changed_position_of_the_data_is_damage(self, folder):
        about = folder / "3" / "about" / "metadata"
        text = about.read_text()
        assert '"next": 3' in text
        about.write_text(text.replace('"next": 3', '"next": 2'))
        assert Checkpoints(folder, config=CONFIG).restore(describe(make_state(0))).step == 2

    def test_all_damaged(self, folder):
        for step in "123":
            (folder / step / "about" / "metadata").unlink()
        words = r"every checkpoint in .*: 3 \(.*2 \(.*1 \(.*start anew"
        with pytest.raises(InputError, match=words):
            Checkpoints(folder, config=CONFIG).restore(describe(make_state(0)))
        assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]
