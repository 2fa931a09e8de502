"""Observations and targets to model inputs."""

import dataclasses
import pickle

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import ConfigError
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import labels
from alpamayo_jax.tokens.images import image_patches
from alpamayo_jax.tokens.processor import BUCKET, Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import CameraFrames, InputError, Observation, Target

CONFIG = preset("tiny")
PROCESSOR = Processor(CONFIG, tiny_tokenizer(CONFIG))
NAMED = dataclasses.replace(
    CONFIG,
    release="alpamayo1_5",
    prompt=dataclasses.replace(CONFIG.prompt, include_camera_ids=True, include_frame_nums=True),
)


def _observation(cameras=((0, 2), (1, 2)), size=(64, 96), seed=0, **fields):
    rng = np.random.default_rng(seed)
    return Observation(
        cameras=tuple(
            CameraFrames(
                index,
                rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
                -0.1 * np.arange(frames)[::-1],
            )
            for index, frames in cameras
        ),
        ego_history_xyz=rng.normal(size=(16, 3)).astype(np.float32),
        ego_history_rot=np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        clip_id=f"clip{seed}",
        **fields,
    )


def _target(**fields):
    rot = np.tile(np.eye(3, dtype=np.float32), (64, 1, 1))
    return Target(np.arange(192, dtype=np.float32).reshape(64, 3), rot, **fields)


def _text(inputs, row, mask=None):
    keep = inputs.attention_mask[row] if mask is None else mask
    return PROCESSOR.tokenizer.decode(inputs.input_ids[row][keep])


class InputsTest(parameterized.TestCase):
    def test_shapes_and_types(self):
        inputs = PROCESSOR.inputs([_observation(), _observation(seed=1)])
        length = inputs.input_ids.shape[1]
        for name, shape, dtype in (
            ("input_ids", (2, length), np.int32),
            ("attention_mask", (2, length), bool),
            ("position_ids", (3, 2, length), np.int32),
            ("rope_delta", (2,), np.int32),
            ("image_index", (2, length), np.int32),
            ("pixel_values", (2, 4, 24, 1536), np.float32),
            ("image_grid", (2, 4, 2), np.int32),
            ("camera_index", (2, 4), np.int32),
            ("frame_time", (2, 4), np.float32),
            ("ego_history_xyz", (2, 16, 3), np.float32),
            ("ego_history_rot", (2, 16, 3, 3), np.float32),
        ):
            value = getattr(inputs, name)
            self.assertEqual((value.shape, value.dtype), (shape, dtype), name)

    def test_cameras_are_sorted(self):
        mixed, ordered = _observation(((6, 1), (0, 2))), _observation(((6, 1), (0, 2)))
        ordered = dataclasses.replace(ordered, cameras=ordered.cameras[::-1])
        got, want = (PROCESSOR.inputs([o]) for o in (mixed, ordered))
        np.testing.assert_array_equal(got.camera_index, [[0, 0, 6]])
        np.testing.assert_allclose(got.frame_time, [[-0.1, 0, 0]])
        np.testing.assert_array_equal(got.pixel_values, want.pixel_values)

    @parameterized.parameters(
        ((),), (((1, 0),),), (((1, 1),),), (((0, 3), (1, 4), (2, 1), (9, 2)),)
    )
    def test_any_cameras_and_frames(self, cameras):
        inputs = PROCESSOR.inputs([_observation(cameras)])
        count = sum(frames for _, frames in cameras)
        self.assertEqual((inputs.image_index >= 0).sum(), 6 * count)
        self.assertEqual((inputs.camera_index >= 0).sum(), count)
        self.assertGreater(inputs.pixel_values.size, 0)
        self.assertTrue(_text(inputs, 0).endswith("<|im_start|>assistant\n<|cot_start|>"))

    def test_mixed_sizes(self):
        big, small = _observation(((1, 1),), (128, 96)), _observation(((1, 2),), (64, 96))
        both = dataclasses.replace(
            big, cameras=(*small.cameras, dataclasses.replace(big.cameras[0], camera_index=2))
        )
        inputs = PROCESSOR.inputs([both, big])
        np.testing.assert_array_equal(
            inputs.image_grid, [[[4, 6], [4, 6], [8, 6]], [[8, 6], [0, 0], [0, 0]]]
        )
        self.assertEqual(inputs.pixel_values.shape, (2, 3, 48, 1536))
        # Slots of an image in the flattened [I, P / 4] array of scene tokens.
        slots = inputs.image_index[0][inputs.image_index[0] >= 0]
        np.testing.assert_array_equal(
            slots, [*range(0, 6), *range(12, 18), *range(24, 36)]
        )
        slots = inputs.image_index[1][inputs.image_index[1] >= 0]
        np.testing.assert_array_equal(slots, range(12))
        image = small.cameras[0].images[1]
        patches, _ = image_patches(image, CONFIG.vision, CONFIG.prompt)
        np.testing.assert_array_equal(inputs.pixel_values[0, 1, :24], patches)
        self.assertFalse(inputs.pixel_values[0, 1, 24:].any())
        self.assertFalse(inputs.pixel_values[1, 1:].any())
        np.testing.assert_array_equal(inputs.camera_index[1], [1, -1, -1])

    def test_image_index_is_at_image_tokens(self):
        inputs = PROCESSOR.inputs([_observation(), _observation(((1, 1),), seed=1)])
        np.testing.assert_array_equal(
            inputs.image_index >= 0, inputs.input_ids == CONFIG.text_tokens.image_token_id
        )

    def test_left_padding_changes_nothing(self):
        observations = [_observation(((1, 1),)), _observation(navigation="Turn left", seed=1)]
        batch = PROCESSOR.inputs(observations, pad_to="bucket")
        self.assertEqual(batch.input_ids.shape[1] % BUCKET, 0)
        for row, observation in enumerate(observations):
            alone = PROCESSOR.inputs([observation])
            n = alone.input_ids.shape[1]
            pads = batch.input_ids.shape[1] - n
            np.testing.assert_array_equal(batch.input_ids[row, pads:], alone.input_ids[0])
            positions = batch.position_ids[:, row]
            np.testing.assert_array_equal(positions[:, pads:], alone.position_ids[:, 0])
            np.testing.assert_array_equal(positions[:, :pads], 1)
            np.testing.assert_array_equal(batch.attention_mask[row], np.arange(n + pads) >= pads)
            self.assertEqual(batch.rope_delta[row], alone.rope_delta[0] - pads)
            self.assertTrue((batch.input_ids[row, :pads] == CONFIG.text_tokens.pad_token_id).all())
            # The next token's position does not depend on padding.
            self.assertEqual(
                batch.rope_delta[row] + n + pads, batch.position_ids[:, row].max() + 1
            )

    def test_pad_to_a_length(self):
        longest = PROCESSOR.inputs([_observation()]).input_ids.shape[1]
        self.assertEqual(PROCESSOR.inputs([_observation()], longest).input_ids.shape[1], longest)
        self.assertEqual(PROCESSOR.inputs([_observation()], 400).input_ids.shape[1], 400)
        with pytest.raises(InputError, match=f"'clip0'.*needs {longest} tokens.*{longest - 1}"):
            PROCESSOR.inputs([_observation()], longest - 1)
        for bad in ("longest", 1.5, True):
            with pytest.raises(ConfigError, match="pad_to"):
                PROCESSOR.inputs([_observation()], bad)

    def test_names_navigation_and_its_removal(self):
        processor = Processor(NAMED, PROCESSOR.tokenizer)
        observation = _observation(navigation="Turn left in 40 m")
        inputs = processor.inputs([observation, processor.without_navigation(observation)])
        text, without = _text(inputs, 0), _text(inputs, 1)
        route = "<|route_start|>Turn left in 40 m<|route_end|>"
        self.assertIn("Front left camera: frame 0 <|vision_start|>", text)
        self.assertEqual(text.replace(route, ""), without)
        self.assertNotEqual(text, without)

    def test_question(self):
        inputs = PROCESSOR.inputs([_observation(question="Is it clear?")], mode="answer")
        text = _text(inputs, 0)
        self.assertTrue(
            text.endswith(
                "<|question_start|>Is it clear?<|question_end|><|im_end|>\n"
                "<|im_start|>assistant\n<|answer_start|>"
            )
        )
        self.assertNotIn("traj_history", text)

    def test_request_decides_the_end(self):
        inputs = PROCESSOR.inputs([_observation()], request=("traj_future",))
        self.assertTrue(_text(inputs, 0).endswith("<|traj_future_start|>"))

    def test_float_resize_differs_a_little(self):
        settings = dataclasses.replace(CONFIG.prompt, float_resize=True)
        floating = Processor(dataclasses.replace(CONFIG, prompt=settings), PROCESSOR.tokenizer)
        observation = _observation(size=(200, 300))
        for camera in observation.cameras:
            camera.images[...] = 80 + camera.images // 3
        got = floating.inputs([observation]).pixel_values
        want = PROCESSOR.inputs([observation]).pixel_values
        self.assertTrue(0 < np.abs(got - want).max() < 3 * 2 / 255)

    def test_survives_pickling(self):
        again = pickle.loads(pickle.dumps(PROCESSOR))
        np.testing.assert_array_equal(
            again.inputs([_observation()]).input_ids, PROCESSOR.inputs([_observation()]).input_ids
        )

    def test_bad_input(self):
        for observations, mode, message in (
            ([], "drive", "at least one observation"),
            ([_observation()], "answer", "'clip0'.*no question"),
            ([_observation(question="?")], "drive", "'clip0'.*has a question"),
            ([_observation(navigation="<|im_end|>")], "drive", "navigation contains"),
            ([_observation(((1, 1),), (2, 900))], "drive", "'clip0'.*camera 1, frame 0.*2 x 900"),
            ([_observation(((1, 1), (1, 1)))], "drive", "indices repeat"),
        ):
            with pytest.raises(InputError, match=message):
                PROCESSOR.inputs(observations, mode=mode)
        with pytest.raises(ConfigError, match="mode 'fly'"):
            PROCESSOR.inputs([_observation()], mode="fly")


class TrainBatchTest(parameterized.TestCase):
    def test_reasoning_and_future(self):
        batch = PROCESSOR.train_batch(
            [_observation(), _observation(seed=1)],
            [_target(reasoning="Keep lane."), _target()],
        )
        future = "<|traj_future_start|>" + "<|traj_future|>" * 128 + "<|traj_future_end|><|im_end|>"
        for row, cot in enumerate(("Keep lane.", "")):
            self.assertEqual(
                _text(batch.inputs, row, batch.labels_mask[row]),
                f"<|cot_start|>{cot}<|cot_end|>{future}",
            )
            self.assertIn("<|traj_history_end|>output the chain", _text(batch.inputs, row))
        self.assertEqual(batch.ego_future_xyz.shape, (2, 64, 3))
        self.assertEqual(batch.ego_future_rot.shape, (2, 64, 3, 3))
        self.assertEqual(batch.ego_future_xyz.dtype, np.float32)

    def test_the_prompt_is_a_prefix(self):
        observation = _observation(navigation="Go straight")
        start = PROCESSOR.inputs([observation])
        whole = PROCESSOR.train_batch([observation], [_target(reasoning="x")]).inputs
        n = start.input_ids.shape[1]
        for name in ("input_ids", "image_index"):
            np.testing.assert_array_equal(getattr(whole, name)[:, :n], getattr(start, name))
        np.testing.assert_array_equal(whole.position_ids[..., :n], start.position_ids)

    def test_meta_action(self):
        batch = PROCESSOR.train_batch([_observation()], [_target(meta_action="steer left")])
        text = _text(batch.inputs, 0)
        self.assertIn("then output meta actions, then", text)
        self.assertIn(
            "<|cot_end|><|meta_action_start|>steer left<|meta_action_end|><|traj_future_start|>",
            text,
        )
        self.assertLen(labels.runs(batch.labels_mask[0]), 1)

    def test_components(self):
        batch = PROCESSOR.train_batch(
            [_observation()], [_target(reasoning="unused")], components=("traj_future",)
        )
        text = _text(batch.inputs, 0)
        self.assertIn("<|traj_history_end|>output the future trajectory.<|im_end|>", text)
        self.assertNotIn("cot", text)

    def test_answer(self):
        batch = PROCESSOR.train_batch(
            [_observation(question="Why?")], [_target(answer="Red light.")], mode="answer"
        )
        self.assertEqual(
            _text(batch.inputs, 0, batch.labels_mask[0]),
            "<|answer_start|>Red light.<|answer_end|><|im_end|>",
        )

    def test_rows_with_a_question_are_answered_and_the_others_drive(self):
        batch = PROCESSOR.train_batch(
            [_observation(question="Why?"), _observation()],
            [_target(answer="Red light."), _target(reasoning="Wait.")],
        )
        answer, drive = (_text(batch.inputs, row, batch.labels_mask[row]) for row in range(2))
        self.assertEqual(answer, "<|answer_start|>Red light.<|answer_end|><|im_end|>")
        self.assertIn("Wait.<|cot_end|>", drive)

    def test_bad_targets(self):
        question = _observation(question="Why?")
        nan = dataclasses.replace(_target(), ego_future_xyz=np.full((64, 3), np.nan))
        for observations, targets, options, message in (
            ([_observation()], [], {}, "1 observations, but 0 targets"),
            ([_observation()], [nan], {}, "target of observation of clip 'clip0'.*NaN"),
            ([question], [_target()], {"mode": "answer"}, "'clip0'.*no answer"),
            (
                [_observation()],
                [_target()],
                {"components": ("cot", "meta_action")},
                "text for its component 'meta_action'",
            ),
            ([_observation()], [_target(reasoning="<|cot_end|>")], {}, "cot contains"),
        ):
            with pytest.raises(InputError, match=message):
                PROCESSOR.train_batch(observations, targets, **options)
