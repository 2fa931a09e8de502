"""Compares this library with recorded values of the released model.

    python experiments/parity.py --reference_dir=DIR --workdir=OUT

DIR holds the recorded arrays (action_space.npz, model.npz, tiny_checkpoint/ ...); parts that are
absent are listed as absent. Prints one line per compared quantity: its error, its tolerance, and
whether it agrees. Writes OUT/summary.json:

    passed              true when something was checked and everything agrees
    max_relative_error  per module, the largest error relative to the recorded magnitude
    parameters_10b      parameter count of the 10B preset
    num_checks, failed, absent

The exit code is 0 when everything agrees, 1 when something is off or nothing could be checked, and
2 when the input is unusable.
"""

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.testing.parity import report

_REFERENCE_DIR = flags.DEFINE_string(
    "reference_dir", None, "Directory of recorded values.", required=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where summary.json goes.", required=True)


def main(argv) -> int:
    del argv
    return report.main(_REFERENCE_DIR.value, cli.make_workdir(_WORKDIR.value))


if __name__ == "__main__":
    cli.run(main)
