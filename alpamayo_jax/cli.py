"""What every script in experiments/ starts with: flags, logging, compilation cache, clear errors.

    if __name__ == "__main__":
        cli.run(main)
"""

import logging as std_logging
import os
import pathlib
import sys
from typing import Callable, Sequence

from absl import app, flags, logging
import jax

import tqdm

from alpamayo_jax.config import ConfigError
from alpamayo_jax.types import InputError

BAD_INPUT = 2  # exit code of a refused flag, input or configuration
FAILED = 1  # exit code of work that could not be done
MAX_SEED = 2**32 - 1
_LOADING_DELAY_S = 1.0  # a bar that is gone at once only flickers


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, unless JAX_COMPILATION_CACHE_DIR already says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home) / "alpamayo_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _is_worth_saying(record: std_logging.LogRecord) -> bool:
    """False for the many lines that Orbax writes about each checkpoint, through the same logger."""
    return record.levelno >= std_logging.WARNING or "orbax" not in record.pathname


def make_workdir(path: str) -> pathlib.Path:
    """The folder for results; it and its parents are made where missing.

    Call it before the work, so that no result is ever without a place.

    Raises:
      InputError: something else is there, or nothing can be written there.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir={path} cannot be a folder: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"--workdir={path} is a folder in which nothing can be written")
    return folder


class LoadingBar:
    """A progress bar for `load_policy(progress=...)`; it is closed when everything is read."""

    def __init__(self):
        self._bar: tqdm.tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm.tqdm(
                total=total, desc="load", unit="B", unit_scale=True, delay=_LOADING_DELAY_S
            )
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()


def _refuse(message: object, code: int = BAD_INPUT) -> None:
    """Ends the process with one sentence."""
    sentence = " ".join(str(message).split())
    print(f"{pathlib.Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    sys.exit(code)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
        if "config" in flags.FLAGS:
            getattr(flags.FLAGS.config, "lock", None)  # a file that could not be read raises here
    except (flags.Error, InputError, ConfigError, OSError) as error:
        _refuse(f"{error} (--help lists the flags)")
    except (AttributeError, KeyError) as error:  # how ml_collections refuses an unknown key
        key = str(error).strip("\"'")
        given = [arg for arg in argv if key in arg.split("=")[0].split(".")[1:]]
        if not given:
            raise
        _refuse(f"{given[0]}: the configuration has no {key!r}")
    except SystemExit:  # a help flag; absl calls that a failure
        sys.exit(0)
    if len(rest) > 1:
        _refuse(f"unexpected argument {rest[1]!r}; every option is a --flag=value")
    return rest


def run(
    main: Callable[[Sequence[str]], int | None], failures: tuple[type[Exception], ...] = ()
) -> None:
    """Parses flags, sets up logging and JAX, and runs `main(argv)`; ends the process.

    The exit code is what `main` returns (None is 0). `InputError` and `ConfigError`, and bad flags,
    become one sentence on stderr and exit code 2, and `failures` (what can go wrong without a bug
    and without bad input) one sentence and exit code 1; `--help` prints the script's docstring and
    flags.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.INFO)
        std_logging.getLogger("jax").setLevel(std_logging.WARNING)
        logging.get_absl_handler().addFilter(_is_worth_saying)
        use_compilation_cache()
        try:
            return main(argv)
        except (InputError, ConfigError) as error:
            _refuse(error)
        except failures as error:
            _refuse(error, FAILED)

    app.run(guarded, flags_parser=_parse)
