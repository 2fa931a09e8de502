"""Triplane: geometry is that of the calibration, whatever the order of the cameras."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.models import scene
from alpamayo_jax.ops import contraction
from alpamayo_jax.ops.camera import camera_from_ego
from alpamayo_jax.ops.lens import project_lens
from alpamayo_jax.sim.camera import extrinsics
from alpamayo_jax.testing.tiny import compressed, quick_jit, random_params, tiny_config
from finite_differences import assert_gradients
from scene_inputs import cameras_of, random_tokens, rig

CONFIG = compressed(tiny_config(), "triplane")
GRID = CONFIG.scene.triplane
PARAMS = random_params(CONFIG)["vlm"]["scene"]


@functools.partial(quick_jit, static_argnames="config")
def _tokens(tokens, cameras, params=PARAMS, config=CONFIG):
    module = scene.make_compressor(config)
    return module.apply({"params": params}, tokens, tokens[None, :0], cameras).tokens


@functools.partial(quick_jit, static_argnames="config")
def _planes(tokens, cameras, params=PARAMS, config=CONFIG):
    module = scene.make_compressor(config)
    return module.apply({"params": params}, tokens, cameras, method="planes")


def _pick(tokens, cameras, order):
    pick = lambda a: a[:, np.asarray(order)]  # noqa: E731
    steps = jnp.arange(len(order), dtype=jnp.int32)[None, None]
    fields = {n: pick(getattr(cameras, n)) for n in ("index", "time", "grid", "lenses")}
    poses = pick(cameras.ego_from_camera)
    return pick(tokens), scene.Cameras(**fields, ego_from_camera=poses, steps=steps)


class TokensTest(parameterized.TestCase):
    @parameterized.parameters((1, (4, 6), 24), (3, (4, 6), 24), (2, (2, 3), 24), (2, (3, 5), 15))
    def test_their_number_does_not_depend_on_cameras_and_resolution(self, count, grid, patches):
        cameras = cameras_of(rig(count=count), steps=2, grid=grid)
        tokens = random_tokens(CONFIG, 2 * count, patches)
        self.assertEqual(_tokens(tokens, cameras).shape, (1, 2 * CONFIG.tokens_per_step, 32))

    @parameterized.parameters("pinhole", "ftheta")
    def test_shuffled_cameras_with_their_calibration_change_nothing(self, model):
        cameras, tokens = cameras_of(rig(model)), random_tokens(CONFIG, 4)
        want = _tokens(tokens, cameras)
        for order in ((3, 1, 0, 2), (1, 2, 3, 0)):
            np.testing.assert_allclose(_tokens(*_pick(tokens, cameras, order)), want, atol=1e-5)
        # Without its calibration a shuffled image is another scene.
        swapped = _tokens(tokens[:, np.array([3, 1, 0, 2])], cameras)
        self.assertGreater(np.abs(swapped - want).max(), 1e-2)

    def test_the_order_within_a_step_does_not_matter(self):
        cameras, tokens = cameras_of(rig(), steps=2), random_tokens(CONFIG, 8)
        turned = cameras.replace(steps=cameras.steps[:, :, ::-1])
        np.testing.assert_allclose(
            _tokens(tokens, turned), _tokens(tokens, cameras), atol=1e-5
        )

    def test_a_masked_camera_is_an_absent_one(self):
        cameras, tokens = cameras_of(rig()), random_tokens(CONFIG, 4)
        want = _tokens(*_pick(tokens, cameras, (0, 1, 3)))
        masked = cameras.replace(index=cameras.index.at[:, 2].set(-1))
        np.testing.assert_allclose(_tokens(tokens, masked), want, atol=1e-5)
        without = cameras.replace(steps=jnp.where(cameras.steps == 2, -1, cameras.steps))
        np.testing.assert_allclose(_tokens(tokens, without), want, atol=1e-5)
        self.assertGreater(np.abs(_tokens(tokens, cameras) - want).max(), 1e-2)

    def test_steps_are_independent(self):
        cameras, tokens = cameras_of(rig(count=2), steps=2), random_tokens(CONFIG, 4)
        changed = _tokens(tokens.at[:, [1, 3]].add(1.0), cameras) - _tokens(tokens, cameras)
        first = CONFIG.tokens_per_step
        self.assertEqual(np.abs(changed[:, :first]).max(), 0)
        self.assertGreater(np.abs(changed[:, first:]).max(), 1e-2)

    def test_rows_of_a_batch_are_independent(self):
        specs = rig(count=2)
        tokens = random_tokens(CONFIG, 2, batch=2)
        both = _tokens(tokens, cameras_of(specs, batch=2))
        for b in range(2):
            alone = _tokens(tokens[b : b + 1], cameras_of(specs))
            np.testing.assert_allclose(both[b : b + 1], alone, atol=1e-5)


# A grid fine enough to tell places apart, and images of many tokens.
FINE = compressed(
    tiny_config(),
    "triplane",
    grid=(48, 48, 12),
    patch=(8, 8, 4),
    range_xy=40.0,
    inner_xy=24.0,
    inner_cells_xy=32,
    range_z=(-1.0, 8.0),
    inner_top_z=5.0,
    inner_cells_z=8,
    image_layers=1,
    cross_layers=1,
)
TOKENS = (16, 24)


def _straight(params):
    """The same parameters, reading exactly where a cell projects."""
    layers = params["image_layers"]
    still = jax.tree.map(jnp.zeros_like, layers["offset_proj"])
    return {**params, "image_layers": {**layers, "offset_proj": still}}


FINE_PARAMS = _straight(random_params(FINE)["vlm"]["scene"])
OBJECTS = tuple(  # in the middle of a cell
    tuple(float(axis.to_metres(np.floor(axis.to_cells(np.float64(p))) + 0.5))
          for axis, p in zip(contraction.axes(FINE.scene.triplane), place))
    for place in ((12.0, 1.0, 1.0), (8.0, -3.0, 2.0), (15.0, 4.0, 0.5))
)  # fmt: skip
# Five cameras all around the objects, so that their rays cross at steep angles.
AROUND = (((0.5, 0.0, 1.6), 0.0), ((5.0, 14.0, 2.0), -60.0), ((5.0, -14.0, 2.0), 60.0),
          ((12.0, 16.0, 1.5), -90.0), ((28.0, 1.0, 2.0), 180.0))  # fmt: skip


def _images(specs, place):
    """Random image tokens, and how they change where a small object at `place` is seen.

    The tokens next to the object's projection carry it, as a bright object lights up its pixels.
    """
    rows, columns = TOKENS
    dark = np.array(random_tokens(FINE, len(specs), rows * columns))
    bright, seen = dark.copy(), []
    for i, spec in enumerate(specs):
        cameras = cameras_of([spec], grid=TOKENS)
        point = camera_from_ego(jnp.asarray([place]), extrinsics(spec).astype(np.float32))
        uv, visible = project_lens(point, cameras.lenses[0, 0])
        seen.append(bool(visible[0]))
        if seen[-1]:
            column, row = np.asarray(uv[0]) * (columns, rows) - 0.5
            near = (np.abs(np.arange(rows) - row)[:, None] < 1.0) & (
                np.abs(np.arange(columns) - column) < 1.0
            )
            bright[0, i, near.reshape(-1)] += 3.0
    return jnp.asarray(dark), jnp.asarray(bright), seen


def _evidence(specs, place, moved=None):
    """Change of the three planes by the object, as if the cameras were at the places of `moved`."""
    dark, bright, seen = _images(specs, place)
    cameras = cameras_of(specs if moved is None else moved, grid=TOKENS)
    planes = zip(
        _planes(bright, cameras, FINE_PARAMS, FINE), _planes(dark, cameras, FINE_PARAMS, FINE)
    )
    return [np.linalg.norm(np.asarray(a - b)[0], axis=-1) for a, b in planes], seen


def _cell(place):
    return [int(a.to_cells(np.float64(p))) for a, p in zip(contraction.axes(FINE.scene.triplane), place)]


class GeometryTest(parameterized.TestCase):
    @parameterized.product(model=("pinhole", "ftheta"), place=OBJECTS)
    def test_an_object_lights_up_its_cells_and_no_ray_that_misses_it(self, model, place):
        """For every one of five camera poses, in all three planes."""
        poses = 0
        for spec in rig(model, 5):
            planes, seen = _evidence([spec], place)
            x, y, z = _cell(place)
            if not seen[0]:
                self.assertEqual(max(plane.max() for plane in planes), 0.0)
                continue
            poses += 1
            lit = self._cells_on_the_ray(spec, place)
            for plane, at, axis in zip(planes, ((x, y), (x, z), (y, z)), (2, 1, 0)):
                self.assertGreater(plane[at], 1e-3)
                # A column of cells changes if and only if the object hides or shows one of them.
                expected = lit.any(axis)
                self.assertEqual(float(plane[~expected].max(initial=0.0)), 0.0)
                self.assertTrue(expected[at])
        self.assertGreaterEqual(poses, 2)

    def _cells_on_the_ray(self, spec, place):
        """Cells whose centres project next to the object: bool [X, Y, Z]."""
        rows, columns = TOKENS
        cameras, pose = cameras_of([spec], grid=TOKENS), extrinsics(spec).astype(np.float32)
        centres = contraction.cell_centres(FINE.scene.triplane)
        points = np.concatenate([centres.reshape(-1, 3), [place]]).astype(np.float32)
        uv, visible = project_lens(camera_from_ego(jnp.asarray(points), pose), cameras.lenses[0, 0])
        at = np.asarray(uv) * (columns, rows)
        near = (np.abs(at[:-1] - at[-1]) < 2.0).all(-1) & np.asarray(visible)[:-1]
        return near.reshape(centres.shape[:3])

    @parameterized.product(model=("pinhole", "ftheta"), place=OBJECTS)
    def test_several_cameras_agree_on_the_place(self, model, place):
        """Rays of one camera cross those of another only at the object."""
        specs = [
            dataclasses.replace(spec, position=position, yaw=yaw, pitch=0.0)
            for spec, (position, yaw) in zip(rig(model, 5), AROUND)
        ]
        count, where = 0.0, _cell(place)
        votes = np.zeros(FINE.scene.triplane.size)
        for spec in specs:
            if not _images([spec], place)[2][0]:
                continue
            count += 1
            votes += self._lit_volume(spec, place)
        self.assertGreaterEqual(count, 3)
        best = np.argwhere(votes == votes.max())
        self.assertEqual(votes[tuple(where)], count)
        self.assertLess(np.abs(np.median(best, axis=0) - where).max(), 3.0)

    def _lit_volume(self, spec, place):
        (xy, xz, yz), _ = _evidence([spec], place)
        lit = [plane > 1e-3 for plane in (xy, xz, yz)]
        return lit[0][:, :, None] & lit[1][:, None, :] & lit[2][None]

    @parameterized.parameters("pinhole", "ftheta")
    def test_moving_the_extrinsics_moves_the_evidence(self, model):
        """The same image from a camera that is turned is evidence about another place."""
        spec, place = rig(model, 1)[0], (12.0, 1.0, 1.0)
        turned = dataclasses.replace(spec, yaw=spec.yaw + 30.0)
        (xy, _, _), _ = _evidence([spec], place)
        (moved, _, _), _ = _evidence([spec], place, moved=[turned])
        x, y, _ = _cell(place)
        # Where the object would be if the turned camera saw it like this.
        back, forth = np.linalg.inv(extrinsics(spec)), extrinsics(turned)
        other = (forth @ back @ np.array([*place, 1.0]))[:3]
        i, j, _ = _cell(other)
        self.assertGreater(xy[x, y], 1e-3)
        self.assertGreater(moved[i, j], 1e-3)
        self.assertEqual((float(xy[i, j]), float(moved[x, y])), (0.0, 0.0))

    def test_cells_that_no_camera_sees_are_empty(self):
        behind = dataclasses.replace(rig(count=1)[0], yaw=180.0)
        planes = _planes(
            random_tokens(FINE, 1, 384), cameras_of([behind], grid=TOKENS), FINE_PARAMS, FINE
        )
        xy = np.asarray(planes[0])[0]
        far_ahead = contraction.axes(FINE.scene.triplane)[0].centres() > 5.0
        self.assertEqual(np.abs(xy[far_ahead]).max(), 0.0)


def test_gradients_agree_with_finite_differences():
    """Through tokens, every parameter of lifting, planes and tokens, and the decoder."""
    cameras, tokens = cameras_of(rig(count=2), grid=(2, 3)), random_tokens(CONFIG, 2, 6)
    points = jnp.asarray(np.random.default_rng(0).uniform((1, -9, 0), (20, 9, 3), (1, 20, 3)))
    module = scene.make_compressor(CONFIG)

    def loss(params, tokens):
        apply = functools.partial(module.apply, {"params": params})
        planes = apply(tokens, cameras, method="planes")
        density, colour = apply(planes, points.astype(jnp.float32), method="decode")
        out = apply(planes, 1, method="tokens").tokens
        return jnp.mean(jnp.sin(out)) + jnp.mean(density) + jnp.mean(colour)

    # Bilinear reading has corners, so the steps stay small.
    assert_gradients(loss, (PARAMS, tokens), step=3e-3, tolerance=3e-2)


def test_it_starts_from_the_mean_of_a_patch():
    cameras, tokens = cameras_of(rig(count=2)), random_tokens(CONFIG, 2)
    module = scene.make_compressor(CONFIG)
    params = module.init(jax.random.key(0), tokens, tokens[None, :0], cameras)["params"]
    weights = params["patch_xy"]
    np.testing.assert_allclose(weights.sum((0, 1)), np.ones(GRID.hidden_size), atol=0.1)
    out = module.apply({"params": params}, tokens, tokens[None, :0], cameras)
    assert out.deepstack.shape[0] == 0 and bool(jnp.isfinite(out.tokens).all())
