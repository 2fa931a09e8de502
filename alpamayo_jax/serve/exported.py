"""Exported programs as a planner: what a car runs, behind the same service."""

from typing import Sequence

import jax
import numpy as np

from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import SampleOutput, prediction_of
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.errors import InputError
from alpamayo_jax.export import Exported
from alpamayo_jax.export.driving import drive
from alpamayo_jax.export.stages import host_facts
from alpamayo_jax.serve.planner import PolicyPlanner
from alpamayo_jax.types import Observation, Prediction, Trajectory

_STEPWISE = ("vision", "prefill", "decode_step", "flow_loop", "trajectory")


class ExportedPlanner(PolicyPlanner):
    """Programs of an export folder, one observation after the other.

    They reason greedily, and plan what `decode.sample.sample` plans with `greedy` and the same seed.
    Numbers of samples and tokens, and the sizes of prompts and images, are those of the export:
    observations of another rig are refused.

    Args:
      policy: configuration and tokenizer; its parameters are not read.
      exported: from `export.load`: stage "policy", or all the stages that it consists of.

    Raises:
      InputError: stages are missing, or the export is of a policy with other tokens.
    """

    def __init__(self, policy: Policy, exported: Exported):
        self._whole = "policy" in exported
        missing = [name for name in _STEPWISE if name not in exported]
        if missing and not self._whole:
            raise InputError(
                f"{exported.folder} cannot drive: it has neither stage policy nor {missing[0]}; "
                "export all stages"
            )
        stage = "policy" if self._whole else "decode_step"
        # What is static; a symbolic batch is read as one row.
        self._sizes = exported.manifest.artefact(stage).sizes
        if host_facts(policy.config) != dict(exported.manifest.model):
            raise InputError(f"{exported.folder} was exported from another policy than the checkpoint")
        settings = SampleSettings(
            num_samples=self._sizes["samples"],
            max_new_tokens=self._sizes["new_tokens"],
            greedy=True,
        )
        super().__init__(policy, settings, max_batch=1)
        self._exported = exported

    def plan(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Prediction]:
        """One plan after the other.

        Log-probabilities are NaN: the programs do not return them.

        Raises:
          InputError: an observation that the programs' static sizes do not fit.
        """
        return [self._plan(o, seed) for o, seed in zip(observations, seeds, strict=True)]

    def _plan(self, observation: Observation, seed: int) -> Prediction:
        config, samples = self.policy.config, self._sizes["samples"]
        inputs = self.policy.processor.inputs([observation], pad_to=self._sizes["length"])
        rng = jax.random.fold_in(jax.random.key(seed), 1)  # as in `sample`
        noise = np.asarray(act.initial_noise(rng, 1, config, self.settings))
        values, call = inputs.named_arrays(), self._exported.run
        if self._whole:
            out = dict(call("policy", {**values, "noise": noise}))
            for name in ("token_ids", "end_index"):  # which all samples share
                out[name] = np.repeat(out[name][:, None], samples, axis=1)
        else:
            limit = self._sizes["new_tokens"]
            out = drive(call, self._exported.manifest.model, values, noise, limit)
        # The programs do not return log-probabilities.
        unknown = np.full(out["token_ids"].shape, np.nan, np.float32)
        said = Generation(out["token_ids"], unknown, out["end_index"], None, None)
        driven = Trajectory(out["xyz"], out["rot"])
        return prediction_of(self.policy, SampleOutput(said, out["actions"], driven, None), 0)
