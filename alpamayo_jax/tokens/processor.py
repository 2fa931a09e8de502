"""Observations and targets to the arrays that the model reads, on the host, in NumPy."""

import dataclasses
from typing import Sequence

import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.ops.image_size import image_tokens
from alpamayo_jax.tokens import images, prompt, views
from alpamayo_jax.tokens.interleaved import interleave
from alpamayo_jax.tokens.labels import label_mask
from alpamayo_jax.tokens.positions import mrope_positions
from alpamayo_jax.tokens.tokenizer import Tokenizer
from alpamayo_jax.types import (
    CameraFrames,
    InputError,
    ModelInputs,
    Observation,
    Target,
    TrainBatch,
)

BUCKET = 128  # lengths are rounded up to multiples of this, so that few programs are compiled
MODES = ("drive", "answer")


@dataclasses.dataclass(frozen=True)
class _Row:
    """One conversation before padding: ids [N], and the images, camera by camera."""

    ids: np.ndarray
    patches: list[np.ndarray]
    grids: list[tuple[int, int]]
    camera_index: list[int]
    frame_time: list[float]
    views: views.Views


class Processor:
    """Builds `ModelInputs` and `TrainBatch` for one configuration and its tokenizer."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self.config = config
        self.tokenizer = tokenizer

    def inputs(
        self,
        observations: Sequence[Observation],
        pad_to: int | str | None = None,
        mode: str = "drive",
        request: Sequence[str] = prompt.DRIVE_REQUEST,
    ) -> ModelInputs:
        """Prompts that end where generation begins.

        Args:
          observations: one per row; any number of cameras, frames and image sizes each. Navigation
            text, where there is some, stands between the ego history and the request.
          pad_to: length to pad to on the left: an int, "bucket" for the next multiple of `BUCKET`,
            or None for the longest row.
          mode: "drive", or "answer" for the text answer to each observation's question.
          request: what to ask for in mode "drive"; the first decides the prompt's last token.

        Raises:
          InputError: a malformed observation, a question that is missing (or there in mode
            "drive"), text with special tokens in it, or a row longer than `pad_to`.
          ConfigError: unknown mode, request or `pad_to`.
        """
        texts = [self._prompt(o, mode, request) for o in observations]
        return self._batch(observations, texts, pad_to)

    def train_batch(
        self,
        observations: Sequence[Observation],
        targets: Sequence[Target],
        pad_to: int | str | None = None,
        mode: str | None = None,
        components: Sequence[str] | None = None,
    ) -> TrainBatch:
        """Whole conversations to train on.

        Args:
          observations: as in `inputs`.
          targets: one per observation.
          pad_to: as in `inputs`.
          mode: "drive", or "answer" to train the targets' answers; None: rows with a question are
            answered, the others drive.
          components: what the assistant says in mode "drive"; by default reasoning (even if empty),
            the meta-action of targets that have one, and the future. The request names the same.

        Raises:
          InputError: as in `inputs`, or a target without a text that its conversation needs.
          ConfigError: as in `inputs`.
        """
        if len(targets) != len(observations):
            raise InputError(f"{len(observations)} observations, but {len(targets)} targets")
        waypoints = self.config.action.n_waypoints
        for observation, target in zip(observations, targets):
            target.validate(waypoints, where=f"target of {_where(observation)}")
        texts = [
            self._conversation(o, t, mode, components) for o, t in zip(observations, targets)
        ]
        inputs = self._batch(observations, texts, pad_to)
        return TrainBatch(
            inputs=inputs,
            labels_mask=label_mask(inputs.input_ids, self.config),
            ego_future_xyz=np.stack([t.ego_future_xyz for t in targets]).astype(np.float32),
            ego_future_rot=np.stack([t.ego_future_rot for t in targets]).astype(np.float32),
        )

    def interleaved_batch(
        self,
        parts: Sequence[tuple[Sequence[Observation], Sequence[Target]]],
        pad_to: int | str | None = None,
        components: Sequence[str] | None = None,
    ) -> TrainBatch:
        """Conversations about all prefixes of the time steps of B observations, in B rows.

        Args:
          parts: part k is what is seen after k + 1 steps, and its targets.
          pad_to, components: as in `train_batch`.

        Raises:
          InputError: as `train_batch`; parts that are not the prefixes of the last.
          ConfigError: as `train_batch`; the model is no Flex that attends by prefixes.
        """
        batches = [self.train_batch(*part, components=components) for part in parts]
        choose = lambda lengths: self._length(lengths, parts[-1][0], pad_to)  # noqa: E731
        return interleave(batches, self.config, choose)

    def row_length(
        self,
        observation: Observation,
        target: Target,
        components: Sequence[str] | None = None,
    ) -> int:
        """Tokens of a row of `train_batch`; only the sizes of images matter, not their content.

        Raises:
          InputError, ConfigError: as in `train_batch`.
        """
        config, tokens = self.config, 0
        for camera in observation.cameras:
            size = camera.images.shape[1:3]
            tokens += len(camera.images) * (image_tokens(size, config.vision, config.prompt) - 1)
        if config.tokens_per_step is not None:
            tokens = views.num_steps(observation) * (config.tokens_per_step - 1)
        text = self._conversation(observation, target, None, components)
        return len(self.tokenizer.encode(text)) + tokens

    def without_navigation(self, observation: Observation) -> Observation:
        """The observation whose prompt has no route, for the unconditional branch of guidance."""
        return dataclasses.replace(observation, navigation=None)

    def _prompt(self, observation: Observation, mode: str, request: Sequence[str]) -> str:
        self._check(observation, mode)
        cameras = _camera_counts(observation)
        if mode == "answer":
            return prompt.question_prompt(cameras, self.config, observation.question)
        return prompt.drive_prompt(
            cameras, self.config, navigation=observation.navigation, request=request
        )

    def _conversation(
        self,
        observation: Observation,
        target: Target,
        mode: str | None,
        components: Sequence[str] | None,
    ) -> str:
        mode = mode or ("drive" if observation.question is None else "answer")
        self._check(observation, mode)
        cameras = _camera_counts(observation)
        if mode == "answer":
            if target.answer is None:
                raise InputError(f"{_where(observation)}: the target has no answer to train on")
            return prompt.question_conversation(
                cameras, self.config, observation.question, target.answer
            )
        if components is None:
            components = [
                name
                for name in prompt.ASSISTANT_COMPONENTS
                if name != "answer" and (name != "meta_action" or target.meta_action is not None)
            ]
        return prompt.drive_conversation(
            cameras,
            self.config,
            {"cot": target.reasoning, "meta_action": target.meta_action},
            navigation=observation.navigation,
            request=components,
        )

    def _check(self, observation: Observation, mode: str) -> None:
        if mode not in MODES:
            raise ConfigError(f"mode {mode!r} must be one of {', '.join(MODES)}")
        observation.validate(self.config.trajectory_tokens.num_history_steps)
        if mode == "answer" and observation.question is None:
            raise InputError(f"{_where(observation)} has no question to answer")
        if mode == "drive" and observation.question is not None:
            raise InputError(
                f"{_where(observation)} has a question; answer it with mode 'answer', or set "
                f"question to None to drive"
            )

    def _batch(
        self,
        observations: Sequence[Observation],
        texts: Sequence[str],
        pad_to: int | str | None,
    ) -> ModelInputs:
        if not observations:
            raise InputError("a batch needs at least one observation")
        config = self.config
        rows = [self._row(o, text) for o, text in zip(observations, texts)]
        length = self._length([len(row.ids) for row in rows], observations, pad_to)
        # At least one (empty) image, so that no array is empty when there is no camera at all.
        num_images = max(1, *(len(row.patches) for row in rows))
        unit, merge = config.vision.merge_unit, config.vision.spatial_merge_size
        num_patches = max(unit, *(len(p) for row in rows for p in row.patches), 0)
        batch = len(rows)

        input_ids = np.full((batch, length), config.text_tokens.pad_token_id, np.int32)
        attention_mask = np.zeros((batch, length), bool)
        image_index = np.full((batch, length), -1, np.int32)
        pixel_values = np.zeros(
            (batch, num_images, num_patches, config.vision.patch_dim), np.float32
        )
        image_grid = np.zeros((batch, num_images, 2), np.int32)
        camera_index = np.full((batch, num_images), -1, np.int32)
        frame_time = np.zeros((batch, num_images), np.float32)
        for b, row in enumerate(rows):
            start = length - len(row.ids)
            input_ids[b, start:] = row.ids
            attention_mask[b, start:] = True
            slots = row.views.slots(config)
            if slots is None:
                slots = [
                    i * (num_patches // unit) + np.arange(len(p) // unit)
                    for i, p in enumerate(row.patches)
                ]
            is_image = input_ids[b] == config.text_tokens.image_token_id
            image_index[b, is_image] = np.concatenate([*slots, np.empty(0, np.int32)])
            for i, patches in enumerate(row.patches):
                pixel_values[b, i, : len(patches)] = patches
            count = len(row.patches)
            image_grid[b, :count] = np.reshape(row.grids, (-1, 2))
            camera_index[b, :count] = row.camera_index
            frame_time[b, :count] = row.frame_time
        blocks = image_grid
        if config.step_grids is not None:
            steps = max(row.views.num_steps for row in rows)
            blocks = np.zeros((batch, steps * len(config.step_grids), 2), np.int32)
            for b, row in enumerate(rows):
                own = np.tile(config.step_grids, (row.views.num_steps, 1))
                blocks[b, : len(own)] = own * merge
        position_ids, rope_delta = mrope_positions(input_ids, attention_mask, blocks, config)
        return ModelInputs(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            rope_delta=rope_delta,
            image_index=image_index,
            pixel_values=pixel_values,
            image_grid=image_grid,
            camera_index=camera_index,
            frame_time=frame_time,
            ego_history_xyz=np.stack([o.ego_history_xyz for o in observations]).astype(np.float32),
            ego_history_rot=np.stack([o.ego_history_rot for o in observations]).astype(np.float32),
            **views.batch_fields([row.views for row in rows], num_images, config),
        )

    def _row(self, observation: Observation, text: str) -> _Row:
        config = self.config
        patches, grids, camera_index, frame_time = [], [], [], []
        for camera in _sorted_cameras(observation):
            for frame, (image, time) in enumerate(zip(camera.images, camera.times)):
                try:
                    cut, grid = images.image_patches(image, config.vision, config.prompt)
                except InputError as error:
                    where = f"{_where(observation)}, camera {camera.camera_index}, frame {frame}"
                    raise InputError(f"{where}: {error}") from error
                patches.append(cut)
                grids.append(grid)
                camera_index.append(camera.camera_index)
                frame_time.append(float(time))
        ids = np.asarray(self.tokenizer.encode(text), np.int32)
        # Each placeholder becomes as many tokens as its image, or time step, has.
        widths = np.ones(len(ids), np.int64)
        if config.tokens_per_step is None:
            counts = [len(p) // config.vision.merge_unit for p in patches]
        else:
            counts = config.tokens_per_step
        widths[ids == config.text_tokens.image_token_id] = counts
        seen = views.views_of(observation, _sorted_cameras(observation), config)
        return _Row(np.repeat(ids, widths), patches, grids, camera_index, frame_time, seen)

    def _length(
        self,
        lengths: list[int],
        observations: Sequence[Observation],
        pad_to: int | str | None,
    ) -> int:
        longest = max(lengths)
        if pad_to is None:
            return longest
        if pad_to == "bucket":
            return -(-longest // BUCKET) * BUCKET
        if not isinstance(pad_to, int) or isinstance(pad_to, bool):
            raise ConfigError(f"pad_to {pad_to!r} must be None, 'bucket' or a number of tokens")
        if longest > pad_to:
            where = _where(observations[lengths.index(longest)])
            raise InputError(
                f"{where} needs {longest} tokens, more than pad_to {pad_to}; allow more tokens, or "
                f"give fewer images or shorter text"
            )
        return pad_to


def _sorted_cameras(observation: Observation) -> list[CameraFrames]:
    return sorted(observation.cameras, key=lambda camera: camera.camera_index)


def _camera_counts(observation: Observation) -> list[tuple[int, int]]:
    return [(c.camera_index, len(c.images)) for c in _sorted_cameras(observation)]


def _where(observation: Observation) -> str:
    return f"observation of clip {observation.clip_id!r} at t0={observation.t0:.3f} s"
