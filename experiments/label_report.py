"""A page about labels: counts, failures of the checks, and keyframes to judge by eye.

    python experiments/label_report.py --labels=LABELS --store=STORE --workdir=OUT

Writes:

    OUT/report.html   counts per class and decision, failures per rule, and for some keyframes a
                      picture, the trace, and the facts that it rests on
    OUT/summary.json  labels, per_class, per_decision, failures (labels per rule), failed_labels,
                      rejected (keyframes per rule), pictures
"""

import pathlib

from absl import flags

from alpamayo_jax import cli
from alpamayo_jax.coc.balance import per_class, per_decision
from alpamayo_jax.coc.schema import read_labels
from alpamayo_jax.data.store import open_store
from alpamayo_jax.labelling import report
from alpamayo_jax.metrics.tables import text_table, write_summary

_LABELS = flags.DEFINE_string(
    "labels", None, "File of labels, or the folder that label.py wrote.", required=True
)
_STORE = flags.DEFINE_string("store", None, "Folder of the store.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_PICTURES = flags.DEFINE_integer("pictures", 20, "Keyframes that are shown.", lower_bound=0)


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    path = pathlib.Path(_LABELS.value)
    folder = path if path.is_dir() else path.parent
    labels = read_labels(path / "labels.jsonl" if path.is_dir() else path)
    source = open_store(_STORE.value)
    checked = report.check_labels(labels, source)
    rejected = report.rejected_rules(folder)
    page = report.label_page(checked, source, rejected, _PICTURES.value)
    page.write(workdir / "report.html")
    failures = report.failures_per_rule(checked)
    write_summary(
        workdir / "summary.json",
        {
            "labels": len(labels),
            "per_class": per_class(labels),
            "per_decision": per_decision(labels),
            "failures": failures,
            "failed_labels": sum(bool(one.failures) for one in checked),
            "rejected": rejected,
            "pictures": min(_PICTURES.value, len(labels)),
        },
    )
    print(text_table([{"rule": rule, "labels": str(n)} for rule, n in failures.items()]))
    print(f"{len(labels)} labels, report: {workdir / 'report.html'}")


if __name__ == "__main__":
    cli.run(main)
