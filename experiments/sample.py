"""Drives one moment of a clip: reasoning, trajectories, and a picture of both.

    python experiments/sample.py --checkpoint=DIR --clip=DIR --t0=SECONDS --num_samples=6 \\
        --seed=0 --workdir=OUT

The checkpoint is a Hugging Face directory of Alpamayo 1 or 1.5, or OUT/checkpoint of the pipeline;
the clip is a folder with ego.npz, meta.json, and frames if there are cameras. Writes:

    OUT/drive.png         front camera with the sampled trajectories, beside the view from above
    OUT/trajectories.npz  xyz [K, 64, 3] metres and rot [K, 64, 3, 3], ego frame at t0, 10 Hz from
                          t0 + 0.1 s
    OUT/reasoning.json    K texts, with their log-probabilities
    OUT/reasoning.txt     the same texts, for people
    OUT/summary.json      clip, t0, num_samples, seed, seconds; where the clip has the future, the
                          open-loop metrics in metres (min_ade, ade, ...)
"""

import dataclasses
import io
import json
import time

from absl import flags
import numpy as np

from alpamayo_jax import cli, policy_flags, reporting
from alpamayo_jax.data.clip_folder import read_clip
from alpamayo_jax.data.windows import observe, target
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.evaluate import measure
from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import write_summary
from alpamayo_jax.types import InputError

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint directory.", required=True)
_CLIP = flags.DEFINE_string("clip", None, "Folder of the clip.", required=True)
_T0 = flags.DEFINE_float("t0", None, "Seconds on the clip's clock.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "Trajectories to sample.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of reasoning and noise.", lower_bound=0, upper_bound=cli.MAX_SEED
)
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames", 4, "Frames per camera, 0.1 s apart.", lower_bound=1
)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 256, "Longest reasoning in tokens; 1 skips reasoning.", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.6, "Of the reasoning.")
_TOP_P = flags.DEFINE_float("top_p", 0.98, "Nucleus of the reasoning.")
_POLICY = policy_flags.define()
_NAVIGATION = flags.DEFINE_string("navigation", None, "Route text (Alpamayo 1.5).")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)


def main(argv) -> None:
    del argv
    workdir = cli.make_workdir(_WORKDIR.value)
    clip = read_clip(_CLIP.value)
    observation = observe(clip, _T0.value, _NUM_FRAMES.value)
    observation = dataclasses.replace(observation, navigation=_NAVIGATION.value)
    policy = _POLICY.load(_CHECKPOINT.value, cli.LoadingBar())
    settings = SampleSettings(
        num_samples=_NUM_SAMPLES.value,
        max_new_tokens=_MAX_NEW_TOKENS.value,
        temperature=_TEMPERATURE.value,
        top_p=_TOP_P.value,
        **_POLICY.sampling(),
    )
    begin = time.perf_counter()
    prediction = sample(policy, observation, seed=_SEED.value, settings=settings)
    summary = {
        "clip": clip.clip_id,
        "t0": _T0.value,
        "num_samples": _NUM_SAMPLES.value,
        "seed": _SEED.value,
        "seconds": time.perf_counter() - begin,
    }
    future = None
    try:
        future = target(clip, _T0.value)
    except InputError as error:
        print(f"no recorded future to compare with: {error}")
    if future is not None:
        summary |= measure(policy, observation, future, prediction)[0]

    arrays = io.BytesIO()
    np.savez(arrays, xyz=prediction.xyz, rot=prediction.rot)
    write_bytes(workdir / "trajectories.npz", arrays.getvalue())
    reasoning = [
        {"reasoning": text, "meta_action": meta, "logprob": float(logprob), "ended": bool(ended)}
        for text, meta, logprob, ended in zip(
            prediction.reasoning,
            prediction.meta_action,
            prediction.reasoning_logprob,
            prediction.ended,
        )
    ]
    write_bytes(workdir / "reasoning.json", json.dumps(reasoning, indent=2).encode())
    text = "".join(f"sample {k}: {r['reasoning'] or '-'}\n" for k, r in enumerate(reasoning, 1))
    write_bytes(workdir / "reasoning.txt", text.encode())
    reporting.window_picture(
        workdir / "drive.png",
        clip,
        observation,
        prediction,
        None if future is None else future.ego_future_xyz,
    )
    write_summary(workdir / "summary.json", summary)
    print(text, end="")
    if future is not None:
        print(f"minADE_{len(prediction.xyz)} {summary['min_ade']:.3f} m over 6.4 s")
    print(f"picture: {workdir / 'drive.png'}")


if __name__ == "__main__":
    cli.run(main)
