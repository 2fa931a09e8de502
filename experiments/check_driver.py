"""Examines an AlpaSim driver before a simulator does: plays sessions, reports every broken rule.

    python experiments/check_driver.py --address=127.0.0.1:6789 [--workdir=OUT]

Works against any driver of AlpaSim's interface, not only that of experiments/serve.py. Two cars
drive wide arcs; images, ego motion and routes come at once, in any order and with the gaps that
AlpaSim leaves, and each plan is checked for what the simulator's controller needs. Exit code 0:
fit; 1: some rule is broken. With --workdir also writes:

    OUT/summary.json  version, rules_checked, rules_broken, broken (their names), drive_calls,
                      drive_ms_p50 and drive_ms_max (milliseconds); for each N of --sessions also
                      drive_ms_p50/N, drive_ms_p95/N, drive_ms_max/N and plans_per_second/N

Needs the extra `sim`.
"""

import uuid

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.types import InputError

_ADDRESS = flags.DEFINE_string("address", None, "HOST:PORT of the driver.", required=True)
_CAMERAS = flags.DEFINE_list(
    "cameras", None, "Logical ids of the vehicle's cameras; default: the four of Alpamayo 1."
)
_HEIGHT = flags.DEFINE_integer("image_height", 1080, "Of the images.", lower_bound=16)
_WIDTH = flags.DEFINE_integer("image_width", 1916, "Of the images.", lower_bound=16)
_SESSIONS = flags.DEFINE_list(
    "sessions", [], "Also measure drive calls of so many sessions at once, such as 1,8,32."
)
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
        import grpc

        from alpamayo_jax.serve import load, preflight, rehearsal
    except ImportError as error:
        raise ConfigError(
            f"this needs the extra `sim` (pip install -e '.[sim]'): {error}"
        ) from error
    wrong = [text for text in _SESSIONS.value if not text.isdecimal() or int(text) < 1]
    if wrong:
        raise ConfigError(f"--sessions: {wrong[0]!r} is not a number of sessions")
    cameras = rehearsal.CAMERAS if _CAMERAS.value is None else tuple(_CAMERAS.value)
    size = _HEIGHT.value, _WIDTH.value
    verdict = preflight.Preflight(
        _ADDRESS.value,
        cameras=cameras,
        image_size=size,
        steps=_STEPS.value,
        limit_s=_LIMIT.value,
        seed=_SEED.value,
    ).run(_CONNECT.value)
    numbers = preflight.summary(verdict, print)
    rows = []
    try:
        for count in () if numbers["rules_broken"] else map(int, _SESSIONS.value):
            like = rehearsal.Rehearsal(f"load-{uuid.uuid4()}", cameras=cameras, image_size=size)
            rows.append(load.measure(_ADDRESS.value, count, _STEPS.value, like).row())
    except grpc.RpcError as error:
        found = f"{error.code().name}: {error.details()}"
        raise InputError(f"{count} sessions at once: {found}") from None
    if rows:
        print(text_table(rows, digits=1))
    numbers |= {
        f"{name}/{row['sessions']}": value
        for row in rows
        for name, value in row.items()
        if name != "sessions"
    }
    if workdir is not None:
        write_summary(workdir / "summary.json", numbers)
    broken = numbers["rules_broken"]
    print(f"{broken} broken rule{'' if broken == 1 else 's'}" if broken else "fit to drive")
    return cli.FAILED if broken else 0


if __name__ == "__main__":
    cli.run(main)
