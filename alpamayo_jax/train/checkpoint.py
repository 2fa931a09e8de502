"""Checkpoints of a run: everything that decides how it goes on, written beside the training.

A checkpoint is the state's arrays (sharded, by path), the position of the data iterator, the random
key and the configuration. It appears whole or not at all, is read onto any mesh, and each array
carries a checksum that does not depend on how it was split: what is read is what was saved, or the
checkpoint counts as damaged.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, Mapping

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import args as ocp_args
from orbax.checkpoint import checkpoint_managers as ocp_managers

from alpamayo_jax.config import ConfigError
from alpamayo_jax.train.checksums import checksums
from alpamayo_jax.train.partition import path_name
from alpamayo_jax.types import InputError

@dataclasses.dataclass(frozen=True)
class Resumed:
    """What a checkpoint held.

    Attributes:
      step: steps done.
      state: like the tree asked for.
      data: state of the data iterator.
      rng: key of the run.
    """

    step: int
    state: Any
    data: dict[str, Any]
    rng: jax.Array


class Checkpoints:
    """The checkpoints of one run in one folder.

    Example:
      checkpoints = Checkpoints(folder, config=settings)
      resumed = checkpoints.restore(abstract_state)
      ...
      checkpoints.save(step, state, data=iterator.get_state(), rng=key, loss=0.3)
      checkpoints.close()
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        config: Mapping[str, Any],
        keep_last: int = 2,
        keep_best: int = 1,
    ):
        """Opens the folder, which is made if it is not there.

        Args:
          folder: holds checkpoints only, named by their step.
          config: nested plain values that must be the same when the run goes on.
          keep_last: how many of the newest are kept.
          keep_best: how many of those with the lowest loss are kept besides.

        Raises:
          ConfigError: fewer than one would be kept.
        """
        if keep_last < 1 or keep_best < 0:
            raise ConfigError(f"checkpoints: keep_last {keep_last} or keep_best {keep_best} is low")
        self.folder = pathlib.Path(folder).absolute()
        self._config = json.loads(json.dumps(config))
        self._keep = _Keep(keep_last, keep_best)
        self._manager = self._open()

    def _open(self) -> ocp_managers.CheckpointManager:
        options = ocp_managers.CheckpointManagerOptions(preservation_policy=self._keep)
        manager = ocp_managers.CheckpointManager(self.folder, options=options)
        for step in manager.all_steps():
            try:
                self._keep.losses[step] = float(_about(manager, step)["loss"])
            except Exception:  # damaged; said when it is read in full
                self._keep.losses.pop(step, None)
        return manager

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: Any,
        *,
        data: Mapping[str, Any],
        rng: jax.Array,
        loss: float,
        wait: bool = False,
    ) -> None:
        """Starts to write a checkpoint; returns when the arrays have left the devices.

        Args:
          step: steps done; one that is there already is left as it is.
          state: tree of arrays.
          data: state of the data iterator, plain values.
          rng: key of the run.
          loss: decides which checkpoints are the best.
          wait: return when it is written.
        """
        if step not in self._manager.all_steps():
            arrays = _by_path(state)
            about = {
                "config": self._config,
                "loss": float(loss),
                "data": dict(data),
                "rng": {
                    "implementation": str(jax.random.key_impl(rng)),
                    "data": np.asarray(jax.random.key_data(rng)).tolist(),
                },
                "checksums": checksums(arrays),
            }
            about = json.loads(json.dumps(about))  # it is written while the iterator goes on
            about["hash"] = hash_of(about)
            self._keep.losses[step] = float(loss)
            self._manager.save(
                step,
                args=ocp_args.Composite(
                    arrays=ocp_args.StandardSave(arrays), about=ocp_args.JsonSave(about)
                ),
            )
        if wait:
            self._manager.wait_until_finished()

    def restore(self, like: Any) -> Resumed | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Damaged ones that are newer are reported and moved to `<folder>-damaged`.

        Args:
          like: tree of `jax.ShapeDtypeStruct`, with shardings; the mesh may be another than when
            it was saved.

        Raises:
          ConfigError: the run was another one; names what differs.
          InputError: there are checkpoints, and all are damaged.
        """
        damage: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                resumed = self._read(step, like)
            except ConfigError:
                raise
            except Exception as error:  # whatever the readers make of damaged files
                resumed, damage[step] = None, f"{type(error).__name__}: {_first_line(error)}"
            if _anywhere(resumed is None):
                damage.setdefault(step, "another host could not read it")
                path = self.folder / str(step)
                logging.error("checkpoint %s is damaged (%s)", path, damage[step])
                continue
            self._set_aside(damage)
            return resumed
        if damage:
            raise InputError(
                f"every checkpoint in {self.folder} is damaged: "
                + "; ".join(f"{step} ({why})" for step, why in damage.items())
                + "; move the folder away to start anew"
            )
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _read(self, step: int, like: Any) -> Resumed:
        about = dict(_about(self._manager, step))
        if about.pop("hash") != hash_of(about):
            raise ValueError("its description does not match its hash")
        differences = _differences(about["config"], self._config)
        if differences:
            raise ConfigError(
                f"{self.folder} holds a run of another configuration: {'; '.join(differences)}; "
                "give that configuration, or another workdir"
            )
        arrays = self._manager.restore(
            step, args=ocp_args.Composite(arrays=ocp_args.StandardRestore(_by_path(like)))
        ).arrays
        found = checksums(arrays)
        changed = [name for name in found if found[name] != about["checksums"].get(name)]
        if changed:
            raise ValueError(f"other bits than were saved in {', '.join(changed[:3])}")
        key = jax.random.wrap_key_data(
            jnp.asarray(about["rng"]["data"], jnp.uint32), impl=about["rng"]["implementation"]
        )
        state = jax.tree.unflatten(jax.tree.structure(like), [arrays[n] for n in _by_path(like)])
        return Resumed(step=step, state=state, data=about["data"], rng=key)

    def _set_aside(self, damage: Mapping[int, str]) -> None:
        if not damage:
            return
        self._manager.close()
        if jax.process_index() == 0:
            for step in damage:
                target = self.folder.with_name(self.folder.name + "-damaged") / str(step)
                number = 1
                while target.exists():
                    target, number = target.with_name(f"{step}-{number}"), number + 1
                target.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(target)
                logging.error("moved it to %s; going on from the one before", target)
        _anywhere(False)  # nobody lists the folder before it is tidy
        self._manager = self._open()


@dataclasses.dataclass
class _Keep(ocp_managers.PreservationPolicy):
    """The newest, and those of the lowest loss."""

    last: int
    best: int
    losses: dict[int, float] = dataclasses.field(default_factory=dict)

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        known = sorted((s for s in steps if s in self.losses), key=self.losses.__getitem__)
        kept = {*steps[-self.last :], *known[: self.best]}
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _about(manager: ocp_managers.CheckpointManager, step: int) -> Mapping[str, Any]:
    return manager.restore(step, args=ocp_args.Composite(about=ocp_args.JsonRestore())).about


def hash_of(values: Any) -> str:
    """Short hash of nested plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _by_path(tree: Any) -> dict[str, Any]:
    return {path_name(p): leaf for p, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _anywhere(value: bool) -> bool:
    """Whether `value` holds on any host."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        both = [(old.get(k, "absent"), new.get(k, "absent"), k) for k in keys]
        pairs = [(a, b, f"{path}.{k}".lstrip(".")) for a, b, k in both]
        return sum((_differences(*pair) for pair in pairs), [])
    return [] if old == new else [f"{path} was {old}, is {new}"]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
