"""Examines an AlpaSim driver before a simulator does: plays sessions, reports every broken rule.

    python experiments/check_driver.py --address=127.0.0.1:6789

Works against any driver of AlpaSim's interface, not only that of experiments/serve.py. Two cars
drive wide arcs; images, ego motion and routes come at once, in any order and with the gaps that
AlpaSim leaves, and each plan is checked for what the simulator's controller needs. Exit code 0: fit;
1: some rule is broken. With --workdir also writes:

    OUT/summary.json  version, rules_checked, rules_broken, broken (their names), drive_calls,
                      drive_ms_p50 and drive_ms_max (milliseconds)

Needs the extra `sim`.
"""

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import write_summary

_ADDRESS = flags.DEFINE_string("address", None, "HOST:PORT of the driver.", required=True)
_CAMERAS = flags.DEFINE_list(
    "cameras", None, "Logical ids of the vehicle's cameras; default: the four of Alpamayo 1."
)
_HEIGHT = flags.DEFINE_integer("image_height", 1080, "Of the images.", lower_bound=16)
_WIDTH = flags.DEFINE_integer("image_width", 1916, "Of the images.", lower_bound=16)
_STEPS = flags.DEFINE_integer("steps", 5, "Plans per session.", lower_bound=1)
_LIMIT = flags.DEFINE_float("limit_s", 60.0, "Longest answer to drive, seconds.", lower_bound=0.001)
_CONNECT = flags.DEFINE_float("connect_s", 10.0, "Wait so long for the driver.", lower_bound=0.0)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of the order of messages.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the summary goes; default: nowhere.")


def main(argv) -> int:
    del argv
    workdir = None if _WORKDIR.value is None else cli.make_workdir(_WORKDIR.value)
    try:
        from alpamayo_jax.serve import preflight
    except ImportError as error:
        raise ConfigError(
            f"this needs the extra `sim` (pip install -e '.[sim]'): {error}"
        ) from error
    verdict = preflight.Preflight(
        _ADDRESS.value,
        cameras=preflight.CAMERAS if _CAMERAS.value is None else _CAMERAS.value,
        image_size=(_HEIGHT.value, _WIDTH.value),
        steps=_STEPS.value,
        limit_s=_LIMIT.value,
        seed=_SEED.value,
    ).run(_CONNECT.value)
    numbers = preflight.summary(verdict, print)
    if workdir is not None:
        write_summary(workdir / "summary.json", numbers)
    broken = numbers["rules_broken"]
    print(f"{broken} broken rule{'' if broken == 1 else 's'}" if broken else "fit to drive")
    return cli.FAILED if broken else 0


if __name__ == "__main__":
    cli.run(main)
