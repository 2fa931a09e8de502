"""A page of pictures: the families of the procedural world, their labels, the proof of causes.

    python experiments/scenarios.py --workdir=OUT

Writes:

    OUT/report.html   a table of the families, then for each a strip of pictures, the trace and what
                      it rests on
    OUT/summary.json  per family: scenario_class, cause, trace, without_cause_m,
                      without_bystanders_m, failures
"""

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.labelling import families
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.sim.scenarios import FAMILIES

_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_FAMILY = flags.DEFINE_multi_enum("family", [], list(FAMILIES), "Only these; default: all.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of the scenarios.", lower_bound=0, upper_bound=cli.MAX_SEED
)


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    chosen = _FAMILY.value or list(FAMILIES)
    found = [families.show(family, _SEED.value, i) for i, family in enumerate(chosen)]
    families.family_page(found).write(workdir / "report.html")
    summary = {
        one.family: {
            "scenario_class": FAMILIES[one.family].scenario.value,
            "cause": one.run.scenario.cause,
            "trace": "" if one.label is None else one.label.trace,
            "without_cause_m": one.without_cause,
            "without_bystanders_m": one.without_bystanders,
            "failures": list(one.failures),
        }
        for one in found
    }
    write_summary(workdir / "summary.json", summary)
    print(text_table(families.family_rows(found)))
    print(f"{len(found)} families, report: {workdir / 'report.html'}")


if __name__ == "__main__":
    cli.run(main)
