"""Shared test set-up: CPU, persistent compilation cache, and the optional reference folder."""

import gc
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("ALPAMAYO_JAX_SHARED", ROOT.parent / "shared"))

_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "alpamayo_jax" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Grain's worker processes read absl flags, which pytest never parses.
flags.FLAGS.mark_as_parsed()


_MAPS = pathlib.Path("/proc/self/maps")
_MANY_MAPS = 40_000


@pytest.fixture(autouse=True, scope="module")
def forgets_programs():
    """Every compiled program holds memory maps, of which Linux gives a process 65,530; with one too
    many XLA crashes. A worker that has run hundreds of files gets there."""
    yield
    if _MAPS.exists() and len(_MAPS.read_bytes().splitlines()) > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def reference_dir() -> pathlib.Path:
    """Recorded values of the reference; tests that need them skip where they are absent."""
    path = SHARED / "reference_values"
    if not (path / "manifest.json").exists():
        pytest.skip(f"no recorded reference values at {path}")
    return path


@pytest.fixture(scope="session")
def real_clips_dir() -> pathlib.Path:
    """Recorded drives; tests that need them skip where they are absent."""
    path = SHARED / "real_clips"
    if not path.is_dir():
        pytest.skip(f"no recorded clips at {path}")
    return path
