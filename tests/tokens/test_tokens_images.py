"""Resize, normalise, patches."""

import dataclasses
import math
import time

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.config import PromptConfig, VisionConfig
from alpamayo_jax.tokens import images
from alpamayo_jax.types import InputError

VISION = VisionConfig()
SIZES = (
    ((1080, 1920), (320, 576)),
    ((540, 960), (320, 576)),
    ((200, 300), (352, 512)),
    ((37, 53), (96, 32)),
    ((2000, 1500), (32, 64)),
    ((5, 7), (96, 160)),
    ((320, 576), (320, 544)),
    ((64, 96), (32, 96)),
)


def _planes(size, seed=0, hard=False):
    values = np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8)
    return (values > 127).astype(np.uint8) * 255 if hard else values


class SmartResizeTest(parameterized.TestCase):
    @parameterized.parameters(
        (1080, 1920, 320, 576), (1208, 1920, 320, 544), (480, 640, 384, 512),
        (320, 576, 320, 576), (256, 256, 416, 416), (200, 300, 352, 512), (2168, 3848, 320, 576),
    )
    def test_release_sizes(self, height, width, want_height, want_width):
        got = images.smart_resize(height, width, 32, 163_840, 196_608)
        self.assertEqual(got, (want_height, want_width))

    def test_properties(self):
        rng = np.random.default_rng(0)
        for height, width in rng.integers(16, 3000, (200, 2)).tolist():
            h, w = images.smart_resize(height, width, 32, 1, 196_608)
            self.assertEqual((h % 32, w % 32), (0, 0))
            if min(h, w) > 32:
                self.assertLessEqual(h * w, 196_608)
            self.assertEqual(images.smart_resize(h, w, 32, 1, max(196_608, h * w)), (h, w))
            h, w = images.smart_resize(height, width, 32, 163_840, 10**8)
            self.assertGreaterEqual(h * w, 163_840)

    def test_halves_round_to_even(self):
        self.assertEqual(images.smart_resize(48, 80, 32, 1, 10**6), (64, 64))

    @parameterized.parameters((0, 5), (1, 201), (4000, 19))
    def test_refuses(self, height, width):
        with pytest.raises(InputError, match=f"{height} x {width}"):
            images.smart_resize(height, width, 32, 1, 10**6)


class ResizeTest(parameterized.TestCase):
    @parameterized.parameters(*SIZES)
    def test_uint8_weights_match_float(self, source, target):
        # Away from 0 and 255, where uint8 clips what overshoots after each pass.
        planes = 80 + _planes(source) // 3
        fixed = images.resize_uint8(planes, *target)
        floating = images.resize_float(planes.astype(np.float32), *target)
        self.assertEqual(fixed.shape, (3, *target))
        self.assertLessEqual(np.abs(floating - fixed).max(), 2)

    def test_constant_stays_constant(self):
        for value in (0, 1, 127, 255):
            planes = np.full((2, 3, 50, 70), value, np.uint8)
            got = images.resize_uint8(planes, 96, 32)
            self.assertEqual(got.shape, (2, 3, 96, 32))
            np.testing.assert_array_equal(got, value)

    def test_same_size_is_the_identity(self):
        planes = _planes((64, 96))
        np.testing.assert_array_equal(images.resize_uint8(planes, 64, 96), planes)

    def test_float_overshoots_at_edges(self):
        planes = np.zeros((1, 64, 64), np.float32)
        planes[..., 32:] = 1
        got = images.resize_float(planes, 96, 96)
        self.assertGreater(got.max(), 1.01)
        self.assertLess(got.min(), -0.01)

    def test_leading_dimensions(self):
        planes = _planes((40, 50))
        batch = np.stack([planes, planes[:, ::-1]])[None]
        got = images.resize_uint8(batch, 32, 64)
        np.testing.assert_array_equal(got[0, 0], images.resize_uint8(planes, 32, 64))

    def test_wrong_type(self):
        with pytest.raises(InputError, match="planes must be uint8"):
            images.resize_uint8(np.zeros((3, 8, 8)), 4, 4)
        with pytest.raises(InputError, match="planes must be float32"):
            images.resize_float(np.zeros((8,), np.float32), 4, 4)

    @pytest.mark.torch
    @parameterized.product(size=SIZES, hard=(False, True))
    def test_equals_torch(self, size, hard):
        torch = pytest.importorskip("torch")
        source, target = size
        planes = _planes(source, hard=hard)

        def interpolate(x):
            return torch.nn.functional.interpolate(
                torch.from_numpy(x)[None], size=target, mode="bicubic", antialias=True
            )[0].numpy()

        np.testing.assert_array_equal(images.resize_uint8(planes, *target), interpolate(planes))
        unit = planes.astype(np.float32) / np.float32(255)
        np.testing.assert_allclose(
            images.resize_float(unit, *target), interpolate(unit), atol=2e-4
        )


class PatchTest(parameterized.TestCase):
    def test_order(self):
        # The value of a pixel tells its patch: 100 x patch row + patch column.
        rows, columns = np.mgrid[:64, :96] // 16
        planes = np.broadcast_to(100 * rows + columns, (3, 64, 96))
        patches, grid = images.patchify(planes, VISION)
        self.assertEqual(grid, (4, 6))
        self.assertEqual(patches.shape, (24, VISION.patch_dim))
        np.testing.assert_array_equal(patches.min(-1), patches.max(-1))
        np.testing.assert_array_equal(
            patches[:8, 0], [0, 1, 100, 101, 2, 3, 102, 103]
        )
        np.testing.assert_array_equal(patches[12:14, 0], [200, 201])

    def test_row_layout(self):
        planes = np.arange(3 * 32 * 32).reshape(3, 32, 32)
        patches, _ = images.patchify(planes, VISION)
        row = patches[3].reshape(3, 2, 16, 16)
        np.testing.assert_array_equal(row[:, 0], planes[:, 16:, 16:])
        np.testing.assert_array_equal(row[:, 0], row[:, 1])

    def test_other_patch_sizes(self):
        vision = dataclasses.replace(VISION, patch_size=4, temporal_patch_size=1)
        patches, grid = images.patchify(np.zeros((3, 16, 24)), vision)
        self.assertEqual((patches.shape, grid), ((24, 48), (4, 6)))

    @parameterized.parameters((3, 48, 32), (3, 32, 40), (1, 32, 32))
    def test_refuses(self, *shape):
        with pytest.raises(InputError, match="multiples of 32"):
            images.patchify(np.zeros(shape), VISION)

    def test_normalised(self):
        image = np.array([0, 255, 51], np.uint8) * np.ones((64, 96, 1), np.uint8)
        limits = PromptConfig(min_pixels=1)
        for prompt in (limits, dataclasses.replace(limits, float_resize=True)):
            patches, grid = images.image_patches(image, VISION, prompt)
            self.assertEqual((grid, patches.dtype), ((4, 6), np.float32))
            channels = patches.reshape(-1, 3, 512)
            np.testing.assert_allclose(channels[:, 0], -1)
            np.testing.assert_allclose(channels[:, 1], 1)
            np.testing.assert_allclose(channels[:, 2], -0.6, rtol=1e-6)

    @parameterized.parameters(
        ((64, 96, 3), np.float32), ((64, 96), np.uint8), ((64, 96, 4), np.uint8)
    )
    def test_refuses_other_images(self, shape, dtype):
        with pytest.raises(InputError, match="image must be uint8"):
            images.image_patches(np.zeros(shape, dtype), VISION, PromptConfig())

    def test_sixteen_full_hd_images_are_quick(self):
        image = np.zeros((1080, 1920, 3), np.uint8)
        images.image_patches(image, VISION, PromptConfig())
        times = []
        for _ in range(3):
            start = time.process_time()
            images.image_patches(image, VISION, PromptConfig())
            times.append(time.process_time() - start)
        self.assertLess(16 * min(times), 2.0)  # about 0.35 s of one core

    @pytest.mark.torch
    @parameterized.parameters((480, 640), (100, 333), (320, 576))
    def test_close_to_the_pillow_processor(self, height, width):
        # transformers' own processor without torchvision; Pillow rounds weights differently.
        module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
        theirs = module.Qwen2VLImageProcessorPil(
            patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3,
            image_std=[0.5] * 3, size={"shortest_edge": 163_840, "longest_edge": 196_608},
        )
        image = _planes((height, width)).transpose(1, 2, 0)
        want = theirs(images=[image], return_tensors="np")
        got, grid = images.image_patches(image, VISION, PromptConfig())
        self.assertEqual(want["image_grid_thw"].tolist(), [[1, *grid]])
        np.testing.assert_allclose(got, want["pixel_values"], atol=2.5 * 2 / 255)


def test_aspect_ratio_is_kept_near():
    height, width = images.smart_resize(900, 1600, 32, 163_840, 196_608)
    assert math.isclose(height / width, 900 / 1600, rel_tol=0.1)
