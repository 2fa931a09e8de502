"""What compressors are told, and how their tokens stand in prompts."""

import dataclasses

from absl.testing import parameterized
import numpy as np
import pytest

from alpamayo_jax.clip import FTheta
from alpamayo_jax.data.collate import concatenate
from alpamayo_jax.ops.lens import pack_lens
from alpamayo_jax.testing.tiny import compressed, random_observation, random_target, tiny_config
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.types import InputError

TINY = tiny_config()


def _processor(compressor, **sizes):
    config = compressed(TINY, compressor, **sizes)
    return Processor(config, tiny_tokenizer(config))


def _observation(frames=2, cameras=(0, 1), seed=0, **changes):
    seen = random_observation(TINY, seed)
    one = seen.cameras[0]
    own = tuple(
        dataclasses.replace(
            one,
            camera_index=index,
            images=np.repeat(one.images, frames, 0)[:frames],
            times=0.1 * np.arange(1 - frames, 1),
            **changes,
        )
        for index in cameras
    )
    return dataclasses.replace(seen, cameras=own)


class PromptTest(parameterized.TestCase):
    @parameterized.parameters(("triplane", (0, 1)), ("triplane", (0, 1, 2, 6)), ("flex", (0, 3, 6)))
    def test_a_step_has_its_tokens_whatever_the_cameras(self, compressor, cameras):
        processor = _processor(compressor)
        inputs = processor.inputs([_observation(2, cameras)])
        count = processor.config.tokens_per_step
        index = inputs.image_index[0]
        np.testing.assert_array_equal(index[index >= 0], np.arange(2 * count))
        image = inputs.input_ids[0] == processor.config.text_tokens.image_token_id
        np.testing.assert_array_equal(image, index >= 0)
        self.assertEqual(inputs.step_images.shape, (1, 2, len(cameras)))

    @parameterized.parameters("per_image", "triplane", "flex")
    def test_row_length_is_that_of_the_row(self, compressor):
        processor = _processor(compressor)
        seen, future = _observation(), random_target(TINY)
        batch = processor.train_batch([seen], [future])
        self.assertEqual(processor.row_length(seen, future), batch.inputs.input_ids.shape[1])

    def test_fewer_steps_use_the_last_chunks_of_flex(self):
        processor = _processor("flex", num_steps=3)
        index = processor.inputs([_observation(1)]).image_index[0]
        per_step = processor.config.tokens_per_step
        np.testing.assert_array_equal(
            index[index >= 0], np.arange(2 * per_step, 3 * per_step)
        )

    def test_planes_stand_like_images(self):
        """Rows and columns of a plane on the height and width axes, one plane after the other."""
        processor = _processor("triplane")
        inputs = processor.inputs([_observation(1)])
        at = inputs.position_ids[:, 0, inputs.image_index[0] >= 0]
        at = at - at.min()
        start = 0
        want = []
        for rows, columns in processor.config.step_grids:
            for r in range(rows):
                want += [(start, start + r, start + c) for c in range(columns)]
            start += max(rows, columns)
        np.testing.assert_array_equal(at.T, want)

    def test_flex_tokens_count_up_like_text(self):
        inputs = _processor("flex").inputs([_observation(1)])
        at = inputs.position_ids[:, 0, inputs.image_index[0] >= 0]
        np.testing.assert_array_equal(at - at[:, :1], np.tile(np.arange(at.shape[1]), (3, 1)))

    def test_the_baseline_knows_nothing_of_it(self):
        inputs = _processor("per_image").inputs([_observation()])
        self.assertIsNone(inputs.step_images)
        self.assertIsNone(inputs.lenses)
        self.assertIsNone(inputs.ego_from_camera)


class ViewsTest(parameterized.TestCase):
    def test_steps_join_the_frames_of_all_cameras(self):
        inputs = _processor("triplane").inputs([_observation(3, (0, 2))])
        np.testing.assert_array_equal(inputs.step_images[0], [[0, 3], [1, 4], [2, 5]])

    def test_a_camera_of_fewer_frames_has_the_newest_ones(self):
        seen = _observation(2, (0, 1))
        short = dataclasses.replace(
            seen.cameras[1], images=seen.cameras[1].images[1:], times=seen.cameras[1].times[1:]
        )
        seen = dataclasses.replace(seen, cameras=(seen.cameras[0], short))
        inputs = _processor("triplane").inputs([seen])
        np.testing.assert_array_equal(inputs.step_images[0], [[0, -1], [1, 2]])

    def test_calibration_arrives(self):
        lens = FTheta(11.0, 7.0, (0.0, 9.0, 0.1), 1.2)
        pose = np.eye(4)
        pose[:3, 3] = 1.5, 0.3, 1.2
        seen = _observation(2, (1,), intrinsics=lens, ego_from_camera=pose)
        inputs = _processor("triplane").inputs([seen, _observation(2, (0, 1))])
        height, width = seen.cameras[0].images.shape[1:3]
        for image in range(2):
            np.testing.assert_array_equal(inputs.lenses[0, image], pack_lens(lens, width, height))
            np.testing.assert_array_equal(inputs.ego_from_camera[0, image], pose.astype(np.float32))
        # Absent images of the first row are usable numbers.
        self.assertTrue(np.isfinite(inputs.lenses).all() and (inputs.lenses[0, 2:, 1] > 0).all())
        np.testing.assert_array_equal(inputs.step_images[0, :, 1], [-1, -1])

    @parameterized.parameters("triplane", "flex")
    def test_joined_batches_are_those_of_all_rows_at_once(self, compressor):
        processor = _processor(compressor)
        seen = [_observation(2, (0, 1), 0), _observation(1, (0,), 1)]
        future = [random_target(TINY, seed) for seed in (0, 1)]
        together = processor.train_batch(seen, future)
        rows = [processor.train_batch([o], [t]) for o, t in zip(seen, future)]
        joined = concatenate(rows, processor.config)
        for name, want in together.inputs.__dict__.items():
            got = getattr(joined.inputs, name)
            if want is None:
                self.assertIsNone(got)
            else:
                np.testing.assert_array_equal(got, want, err_msg=name)

    def test_no_cameras_at_all(self):
        for compressor in ("triplane", "flex"):
            seen = dataclasses.replace(_observation(), cameras=())
            inputs = _processor(compressor).inputs([seen])
            self.assertEqual((inputs.image_index >= 0).sum(), 0)


@pytest.mark.parametrize("field", ["intrinsics", "ego_from_camera"])
def test_the_triplane_needs_calibration(field):
    seen = _observation(1, (0,), **{field: None})
    with pytest.raises(InputError, match="camera 0 has no intrinsics or no ego_from_camera"):
        _processor("triplane").inputs([seen])
    _processor("flex").inputs([seen])


def test_flex_has_tokens_for_so_many_steps_and_cameras():
    with pytest.raises(InputError, match="3 time steps, but Flex has tokens for 2"):
        _processor("flex").inputs([_observation(3)])
    with pytest.raises(InputError, match="indices 0 to 6"):
        _processor("flex").inputs([_observation(1, (9,))])


def test_a_broken_mounting_is_refused():
    pose = np.eye(4)
    pose[0, 3] = np.nan
    with pytest.raises(InputError, match=r"cameras\[0\].ego_from_camera"):
        _processor("flex").inputs([_observation(1, (0,), ego_from_camera=pose)])
