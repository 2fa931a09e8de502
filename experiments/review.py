"""A web page on which people judge, correct and write Chain-of-Causation labels.

    python experiments/review.py --store=STORE --labels=LABELS/labels.jsonl --port=8080
    python experiments/review.py --store=STORE --labels=LABELS/labels.jsonl --workdir=OUT --export

The page first shows the two seconds before a keyframe and its critical components, and on demand
the six seconds after it and the decisions. Annotator, second annotator and auditor are three
people; what each does is kept with name and time. The page is served on this machine only, unless
--host says otherwise; for a browser elsewhere use a tunnel, such as ssh -L 8080:127.0.0.1:8080.

Writes, into the folder of the labels unless --workdir says otherwise:

    OUT/edits.jsonl     every edit, as it is made; only ever grows
    OUT/reviewed.jsonl  all labels as they stand, when the page is stopped, or with --export
    OUT/summary.json    with it: labels, edits, proposed, accepted, rejected, checked_twice,
                        audited, late_components (edits of components after the future was shown),
                        annotators (of each, how many labels were checked, and changed)
"""

import pathlib

from absl import flags, logging

from alpamayo_jax import cli
from alpamayo_jax.coc.schema import read_labels
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.store import open_store
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import write_summary
from alpamayo_jax.review.book import Book
from alpamayo_jax.review.desk import Desk

_STORE = flags.DEFINE_string("store", None, "Folder that ingest.py wrote.", required=True)
_LABELS = flags.DEFINE_string(
    "labels", None, "File of labels, or the folder that label.py wrote.", required=True
)
_PORT = flags.DEFINE_integer("port", 8080, "Of the page.", lower_bound=1, upper_bound=65535)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to serve on; default: this machine only.")
_AUTHOR = flags.DEFINE_string("author", "", "Name that is filled in.")
_EXPORT = flags.DEFINE_bool("export", False, "Write the results and end, without a page.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; default: beside the labels.")


def main(argv) -> None:
    del argv
    labels = pathlib.Path(_LABELS.value)
    labels = labels / "labels.jsonl" if labels.is_dir() else labels
    workdir = cli.make_workdir(_WORKDIR.value or str(labels.parent))
    source = open_store(_STORE.value)
    book = Book(read_labels(labels), workdir / "edits.jsonl")

    def export() -> None:
        lines = "".join(f"{label.line()}\n" for label in book.labels())
        write_bytes(workdir / "reviewed.jsonl", lines.encode())
        write_summary(workdir / "summary.json", book.summary())
        print(f"reviewed: {workdir / 'reviewed.jsonl'}")

    if _EXPORT.value:
        export()
        return
    try:
        from alpamayo_jax.review import page
    except ImportError as error:
        raise ConfigError(
            f"the page needs the extra `review` (pip install -e '.[review]'): {error}"
        ) from error
    if _HOST.value not in page.LOOPBACK:
        logging.warning("--host=%s: everybody who reaches it sees the drives", _HOST.value)
    print(f"http://{_HOST.value}:{_PORT.value}", flush=True)
    page.serve(Desk(source, book), _HOST.value, _PORT.value, _AUTHOR.value, on_stop=export)


if __name__ == "__main__":
    cli.run(main)
