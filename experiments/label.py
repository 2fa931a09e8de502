"""Labels the drives of a store with the Chain of Causation: decisions, causes, and a trace.

    python experiments/label.py --labeller=rules --store=STORE --workdir=OUT
    python experiments/label.py --labeller=vlm --store=STORE --workdir=OUT \\
        --endpoint=http://127.0.0.1:8000/v1 --model=NAME
    python experiments/label.py --labeller=rules --store=STORE --workdir=OUT --engine=beam \\
        --beam_options=--direct_num_workers=2,--direct_running_mode=multi_processing

rules works from the annotated road users, the map and the events, and needs no model; vlm asks any
OpenAI-compatible endpoint, with the key in the environment variable --key_env. The run can be
stopped at any moment and started again: no clip is labelled twice, and no answer paid for twice.

Writes:

    OUT/labels.jsonl      a label per line; `alpamayo_jax/coc/schema.py` describes it
    OUT/rejected.jsonl    keyframes that got no label: clip, keyframe_s, rule, reason, and the label
                          that failed a check where there was one
    OUT/quarantine.jsonl  vlm: answers that could not be used, whole
    OUT/summary.json      labels, per_decision, per_class, rejected (by rule), left_out_by_balance,
                          clips, failed (name and reason of each), labeller, seconds; vlm:
                          prompt_tokens, completion_tokens, dollars (with --prices)
"""

from absl import flags

from alpamayo_jax import cli, labelling
from alpamayo_jax.coc.chat import ChatUnavailable
from alpamayo_jax.config import ConfigError
from alpamayo_jax.metrics.tables import text_table

_LABELLER = flags.DEFINE_enum("labeller", "rules", labelling.LABELLERS, "Who labels.")
_STORE = flags.DEFINE_string("store", None, "Folder of the store.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)
_MOST = flags.DEFINE_integer(
    "most_per_class", 0, "Labels of each class that are kept; 0: all.", lower_bound=0
)
_ENDPOINT = flags.DEFINE_string("endpoint", None, "vlm: base URL of the endpoint, up to /v1.")
_MODEL = flags.DEFINE_string("model", None, "vlm: name of the model there.")
_KEY_ENV = flags.DEFINE_string(
    "key_env", "OPENAI_API_KEY", "vlm: environment variable that holds the key."
)
_CONCURRENCY = flags.DEFINE_integer(
    "concurrency", 4, "vlm: requests at a time.", lower_bound=1
)
_PRICES = flags.DEFINE_list(
    "prices", [], "vlm: dollars per million prompt tokens and completion tokens."
)
_ENGINE = flags.DEFINE_enum(
    "engine", "local", ("local", "beam"), "This process, or Apache Beam (extra `beam`)."
)
_BEAM_OPTIONS = flags.DEFINE_list(
    "beam_options", [], "beam: its options, runner included, as on a Beam command line."
)


def _endpoint() -> tuple[tuple[str, object], ...]:
    if _LABELLER.value != "vlm":
        return ()
    if not _ENDPOINT.value or not _MODEL.value:
        raise ConfigError("--labeller=vlm needs --endpoint and --model")
    fields = {
        "url": _ENDPOINT.value,
        "model": _MODEL.value,
        "key_env": _KEY_ENV.value,
        "concurrency": _CONCURRENCY.value,
    }
    if _PRICES.value:
        try:
            fields["prompt_price"], fields["completion_price"] = map(float, _PRICES.value)
        except ValueError:
            raise ConfigError(f"--prices={','.join(_PRICES.value)}: two numbers") from None
    return tuple(fields.items())


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    job = labelling.Job(
        _STORE.value, str(workdir), _LABELLER.value, _MOST.value, _endpoint()
    )
    summary = labelling.label_store(
        job, engine=_ENGINE.value, beam_options=tuple(_BEAM_OPTIONS.value)
    )
    for name in ("per_class", "per_decision", "rejected"):
        what = "keyframes" if name == "rejected" else "labels"
        rows = [{name: key, what: value} for key, value in summary[name].items() if value]
        if rows:
            print(f"{text_table(rows)}\n")
    print(f"{summary['labels']} labels of {summary['clips']} clips: {workdir / 'labels.jsonl'}")
    for entry in summary["failed"]:
        print(f"not labelled: {entry['name']}: {entry['reason']}")


if __name__ == "__main__":
    cli.run(main, failures=(ChatUnavailable,))
