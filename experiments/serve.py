"""Drives for AlpaSim: serves its driver interface over gRPC from a checkpoint.

    python experiments/serve.py --checkpoint=DIR --port=6789 [--workdir=OUT]
    python experiments/serve.py --checkpoint=DIR --exported=PROGRAMS --cameras=1

Programs are compiled before the port opens; then one line is printed, and the simulator may start:

    ready: egodriver.EgodriverService at 127.0.0.1:6789

`experiments/check_driver.py --address=127.0.0.1:6789` plays a session against it first. The port is
seen by this machine only, unless --host says otherwise; nobody who reaches it is asked for a name.
Needs the extra `sim`. Ends with Ctrl-C or SIGTERM; with --workdir it then writes:

    OUT/summary.json  seconds (served), and how many calls were answered: start_session, drive,
                      close_session and so on by their names, and refused; streaming: what its
                      steps computed in all, with --streaming
"""

import signal
import time

from absl import flags, logging

from alpamayo_jax import cli, policy_flags
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import describe_policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.export import load
from alpamayo_jax.metrics.tables import write_summary

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint directory.", required=True)
_EXPORTED = flags.DEFINE_string(
    "exported", None, "Folder that experiments/export.py wrote from the checkpoint: its programs "
    "drive, greedily, for one rig, with their numbers of samples and tokens.",
)  # fmt: skip
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to serve on; default: this machine only.")
_PORT = flags.DEFINE_integer("port", 6789, "0 takes a free one.", lower_bound=0, upper_bound=65535)
_CAMERAS = flags.DEFINE_list(
    "cameras", None, "Indices of the cameras to look through, in the release's camera map (1 is "
    "front wide); default: all that a session has.",
)  # fmt: skip
_NAMES = flags.DEFINE_list("camera_names", [], "Further logical ids of cameras, each ID=INDEX.")
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames", 4, "Frames per camera, 0.1 s apart.", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_string(
    "image_size", "1080x1916", "Height x width for which programs are compiled ahead; other sizes "
    "are taken too, and compiled when they come.",
)  # fmt: skip
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "Trajectories to sample.", lower_bound=1)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 256, "Longest reasoning in tokens; 1 skips reasoning.", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.6, "Of the reasoning.")
_TOP_P = flags.DEFINE_float("top_p", 0.98, "Nucleus of the reasoning.")
_POLICY = policy_flags.define(layers_apart=True)
_STREAMING = policy_flags.define_streaming()
_FLOW_STEPS = flags.DEFINE_integer("flow_steps", None, "Euler steps; default: the checkpoint's.")
_NAVIGATION = flags.DEFINE_bool(
    "navigation", False, "Tell the policy the route as text (Alpamayo 1.5)."
)
_SEED = flags.DEFINE_integer(
    "seed", None, "Of every session, so that rollouts can be repeated; default: the seed that the "
    "simulator draws for each.", lower_bound=0, upper_bound=cli.MAX_SEED,
)  # fmt: skip
_MAX_SESSIONS = flags.DEFINE_integer("max_sessions", 64, "Open at once.", lower_bound=1)
_MOST_DRIVES = flags.DEFINE_integer(
    "streaming_sessions", 8, "With --streaming: sessions whose last step is remembered; each keeps "
    "the cache of a prompt on the device.", lower_bound=1,
)  # fmt: skip
_MAX_BATCH = flags.DEFINE_integer(
    "max_batch", 4, "Plans made at once, a power of two; each power up to it is compiled."
)
_MAX_MESSAGE = flags.DEFINE_integer("max_message_mb", 64, "Largest message, MiB.", lower_bound=1)
_OF_JAX = (  # what exported programs have decided already
    "num_samples", "max_new_tokens", "temperature", "top_p", "flow_steps", "max_reasoning_tokens",
    "weights", "offload", "layers_apart", "streaming", "draft_block",
)  # fmt: skip
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the summary is written.")
_SHUT_DOWN = flags.DEFINE_bool("may_shut_down", False, "Let clients end this server.")


def main(argv) -> None:
    del argv
    try:
        from alpamayo_jax.serve import driver as driver_lib, rehearsal
        from alpamayo_jax.serve import server as server_lib, wire
    except ImportError as error:
        raise ConfigError(
            f"serving needs the extra `sim` (pip install -e '.[sim]'): {error}"
        ) from error
    workdir = None if _WORKDIR.value is None else cli.make_workdir(_WORKDIR.value)
    cameras = None if _CAMERAS.value is None else tuple(map(_index, _CAMERAS.value))
    settings = driver_lib.DriverSettings(
        cameras=cameras,
        num_frames=_NUM_FRAMES.value,
        camera_names=tuple(map(_camera_name, _NAMES.value)),
        navigation=_NAVIGATION.value,
        seed=_SEED.value,
        max_sessions=_MAX_SESSIONS.value,
        max_batch=_MAX_BATCH.value,
    )
    height, width = _size(_IMAGE_SIZE.value)
    planner = _planner()
    release = planner.policy.config.release
    if _NAVIGATION.value and release != "alpamayo1_5":
        raise ConfigError(f"--navigation: a policy of release {release} has no route")
    looking = rehearsal.CAMERA_INDICES if cameras is None else cameras
    planner.warm(looking, _NUM_FRAMES.value, height, width, _NAVIGATION.value)
    if _HOST.value not in server_lib.LOOPBACK:
        logging.warning("--host=%s: everybody who reaches it can drive with it", _HOST.value)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server_lib.Server(
        driver_lib.Driver(planner, settings),
        _HOST.value,
        _PORT.value,
        max_message=_MAX_MESSAGE.value << 20,
        may_shut_down=_SHUT_DOWN.value,
    ) as server:
        print(f"ready: {wire.SERVICE} at {server.address}", flush=True)
        begin = time.monotonic()
        try:
            server.wait()
        except KeyboardInterrupt:
            logging.info("stopping")
    if workdir is not None:
        served = {"seconds": round(time.monotonic() - begin, 3)}
        if _STREAMING.value != "off":
            served["streaming"] = dict(planner.drives.totals)
        write_summary(workdir / "summary.json", served | server.counts())


def _planner():
    """What plans, as the flags say."""
    from alpamayo_jax.serve import planner

    if _EXPORTED.value is not None:
        return _exported_planner()
    policy = _POLICY.load(_CHECKPOINT.value, cli.LoadingBar())
    sampling = SampleSettings(
        num_samples=_NUM_SAMPLES.value,
        max_new_tokens=_MAX_NEW_TOKENS.value,
        temperature=_TEMPERATURE.value,
        top_p=_TOP_P.value,
        flow_steps=_FLOW_STEPS.value,
        **_POLICY.sampling(),
        **_STREAMING.sampling(),
    )
    if _STREAMING.value == "off":
        return planner.PolicyPlanner(policy, sampling, _MAX_BATCH.value)
    most = min(_MAX_SESSIONS.value, _MOST_DRIVES.value)
    return planner.StreamingPlanner(policy, sampling, _STREAMING.value, most)


def _exported_planner():
    from alpamayo_jax.serve.exported import ExportedPlanner

    given = [f"--{f}" for f in _OF_JAX if flags.FLAGS[f].present]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot change exported programs; give them to the export, or "
            "leave out --exported"
        )
    return ExportedPlanner(describe_policy(_CHECKPOINT.value), load(_EXPORTED.value))


def _index(text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"--cameras: {text!r} is not the index of a camera")
    return int(text)


def _camera_name(text: str) -> tuple[str, int]:
    name, _, index = text.rpartition("=")
    if not name or not index.isdecimal():
        raise ConfigError(f"--camera_names: {text!r} is not ID=INDEX")
    return name, int(index)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--image_size: {text!r} is not HEIGHTxWIDTH")
    return int(height), int(width)


if __name__ == "__main__":
    cli.run(main)
