"""Drives step by step: against every step computed from nothing, and what each step computes."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import sample as sampling
from alpamayo_jax.decode import streaming
from alpamayo_jax.decode.policy import new_policy
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.refill import BLOCK, plan_reuse, refill
from alpamayo_jax.decode.sample import drive_program, sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.streaming import Drive, Drives
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import quick_jit, random_observation, random_params, tiny_config
from alpamayo_jax.types import CameraFrames

_prefill = quick_jit(prefill, static_argnums=2)
_refill = quick_jit(refill, static_argnums=7)


def _sample_unjitted(params, inputs, rng, config, settings, unconditional, score_trajectories):
    del unconditional, score_trajectories  # never asked for here
    return sampling.sample_program(params, inputs, rng, config, settings)


SETTINGS = SampleSettings(num_samples=2, max_new_tokens=6, draft_block=3)
_PIXELS = np.random.default_rng(3).integers(0, 256, (2, 12, 16, 24, 3), np.uint8)


@functools.cache
def _policy():
    policy = new_policy(tiny_config(), jax.random.key(0))
    params = random_params(policy.config)
    # Random flows are chaotic; this one forgets a rounding error instead of blowing it up.
    params["action_out_proj"]["kernel"] *= 0.02
    return dataclasses.replace(policy, params=params)


@pytest.fixture(scope="module", autouse=True)
def _quick_programs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_prefill", _prefill)
        patch.setattr(streaming, "_refill", _refill)
        patch.setattr(
            streaming, "_drive", quick_jit(drive_program, static_argnames=("config", "settings"))
        )
        patch.setattr(
            sampling, "_sample", quick_jit(_sample_unjitted, static_argnums=(3, 4, 6))
        )
        yield


def _at(step, **fields):
    """What is seen at a step of one drive: two cameras with three frames, 0.1 s apart."""
    observation = random_observation(_policy().config, seed=step, t0=5.0 + 0.1 * step, **fields)
    times = 0.1 * np.arange(-2, 1)
    cameras = tuple(
        CameraFrames(index, _PIXELS[index, step : step + 3], times) for index in (0, 1)
    )
    return dataclasses.replace(observation, cameras=cameras)


def _same(got, want):
    np.testing.assert_array_equal(got.token_ids, want.token_ids)
    np.testing.assert_allclose(got.token_logprobs, want.token_logprobs, atol=1e-4)
    np.testing.assert_allclose(got.xyz, want.xyz, atol=2e-3)
    np.testing.assert_allclose(got.actions, want.actions, atol=1e-3)
    assert got.reasoning == want.reasoning


class DriveTest(parameterized.TestCase):
    def test_exact_reuse_drives_as_if_every_step_were_the_first(self):
        drive = Drive(_policy(), SETTINGS)
        reports = []
        for step in range(3):
            got = drive(_at(step), seed=step)
            _same(got, sample(_policy(), _at(step), seed=step, settings=SETTINGS))
            reports.append(drive.report)
        assert [r.encoded_images for r in reports] == [6, 2, 2] and reports[0].images == 6
        prompt = reports[0].prompt_tokens
        assert reports[0].computed_tokens == prompt
        # Only what stands before the first image is as before.
        index = _policy().processor.inputs([_at(0)]).image_index[0]
        assert [prompt - r.computed_tokens for r in reports[1:]] == [(index >= 0).argmax()] * 2
        assert reports[0].proposed == 0
        assert all(2 <= r.said_tokens <= 12 for r in reports)

    def test_the_same_moment_asked_again(self):
        drive = Drive(_policy(), SETTINGS, speculate=False)
        drive(_at(0), seed=0)
        route = _at(0, navigation="Turn left in 20 m")
        _same(drive(route, seed=1), sample(_policy(), route, seed=1, settings=SETTINGS))
        # The images and what stands before them are kept; the ego history is the same too.
        assert drive.report.encoded_images == 0
        assert drive.report.computed_tokens < drive.report.prompt_tokens / 2
        drive(route, seed=2)
        assert drive.report.computed_tokens == 1 and drive.report.passes == 6

    def test_the_draft_of_the_step_before(self):
        settings = dataclasses.replace(SETTINGS, greedy=True)
        drive, plain = Drive(_policy(), settings), Drive(_policy(), settings, speculate=False)
        drive(_at(0), seed=0), plain(_at(0), seed=0)
        got, want = drive(_at(0), seed=0), plain(_at(0), seed=0)
        np.testing.assert_array_equal(got.token_ids, want.token_ids)
        assert drive.report.accepted == drive.report.proposed > 0
        assert drive.report.passes < plain.report.passes and plain.report.proposed == 0

    def test_approximate_reuse_computes_less(self):
        exact, drive = Drive(_policy(), SETTINGS), Drive(_policy(), SETTINGS, reuse="approximate")
        for step in range(2):
            want, got = (d(_at(step), seed=step) for d in (exact, drive))
        # Two of three frames of two cameras, of 3 x 2 tokens each, are kept.
        assert exact.report.computed_tokens - drive.report.computed_tokens == 4 * 6
        assert np.isfinite(got.xyz).all()
        # It is an approximation.
        assert np.abs(got.reasoning_logprob - want.reasoning_logprob).min() > 1e-3

    def test_an_earlier_time_begins_a_drive(self):
        drive = Drive(_policy(), SETTINGS)
        drive(_at(2), seed=0)
        other = dataclasses.replace(_at(4), t0=1.0)
        _same(drive(other, seed=1), sample(_policy(), other, seed=1, settings=SETTINGS))
        assert drive.report.encoded_images == 6 and drive.report.proposed == 0

    def test_without_cameras(self):
        drive = Drive(_policy(), SETTINGS)
        for step in range(2):
            blind = dataclasses.replace(_at(step), cameras=())
            _same(drive(blind, seed=9), sample(_policy(), blind, seed=9, settings=SETTINGS))
        assert drive.report.images == 0 == drive.report.encoded_images

    @parameterized.parameters(
        (dict(reuse="some"), SETTINGS, "reuse 'some' is unknown"),
        ({}, dataclasses.replace(SETTINGS, guidance_weight=2.0), "guidance"),
        ({}, dataclasses.replace(SETTINGS, force_end=False), "needs force_end"),
    )
    def test_refused(self, options, settings, message):
        with pytest.raises(ConfigError, match=message):
            Drive(_policy(), settings, **options)


def test_many_drives_are_told_apart_and_the_oldest_is_forgotten():
    drives = Drives(_policy(), SETTINGS, most=2)
    drives(["a", "b"], [_at(0), _at(3)], [0, 0])
    first = drives.of("a")
    (got,) = drives(["a"], [_at(1)], [5])
    assert drives.of("a") is first and first.report.encoded_images == 2
    _same(got, sample(_policy(), _at(1), seed=5, settings=SETTINGS))
    drives(["c"], [_at(0)], [0])
    assert drives.of("b").report is None and drives.of("c").report is not None
    with pytest.raises(ConfigError, match="at least 1"):
        Drives(_policy(), SETTINGS, most=0)


class PlanTest(parameterized.TestCase):
    """Two words, two frames of two tokens, two words; -1 is padding."""

    OLD = np.array([-1, -1, 7, 8, -10, -11, -12, -13, 5, 6])
    AT = np.array([0, 0, 0, 1, 2, 2, 4, 4, 6, 7])

    def _plan(self, new, positions=None, moved=False):
        new = np.array(new)
        positions = self.AT[-len(new) :] if positions is None else np.array(positions)
        positions = np.tile(positions, (3, 1))
        plan = plan_reuse(
            (self.OLD, np.tile(self.AT, (3, 1))), (new, positions), new != -1, moved=moved
        )
        fresh = plan.fresh[plan.fresh >= 0]
        assert len(plan.fresh) % BLOCK == 0 and (np.diff(plan.fresh) >= 0).all()
        assert set(fresh) == set(np.flatnonzero((new != -1) & (plan.source < 0)))
        return plan, fresh.tolist()

    def test_the_same_prompt_computes_its_last_token(self):
        plan, fresh = self._plan(self.OLD)
        assert fresh == [9] and not plan.moved
        np.testing.assert_array_equal(plan.source, [-1, -1, 2, 3, 4, 5, 6, 7, 8, -1])

    def test_other_padding_and_another_end(self):
        plan, fresh = self._plan([7, 8, -10, -11, -12, -13, 5, 9])
        assert fresh == [7] and plan.source[:3].tolist() == [2, 3, 4]

    def test_a_frame_that_has_moved(self):
        new = [-1, -1, 7, 8, -12, -13, -14, -15, 5, 6]
        plan, fresh = self._plan(new)
        assert fresh == [4, 5, 6, 7, 8, 9] and not plan.moved
        plan, fresh = self._plan(new, moved=True)
        assert fresh == [6, 7, 8, 9] and plan.moved
        assert plan.source[4:6].tolist() == [6, 7]
        np.testing.assert_array_equal(plan.shift[:, 4:6], -2)
        assert not plan.shift[:, fresh].any()

    def test_the_same_tokens_elsewhere_are_others(self):
        _, fresh = self._plan(self.OLD, self.AT + 1)
        assert fresh == list(range(2, 10))


@quick_jit
def _scene_tokens(params, inputs):
    return Alpamayo(_policy().config).apply({"params": params}, inputs, method="scene_tokens")


class RefillTest(parameterized.TestCase):
    def _both(self, params, moved):
        policy = dataclasses.replace(_policy(), params=params)
        drive = Drive(policy, SETTINGS, speculate=False)
        found = []
        for step in (0, 1):
            inputs = policy.processor.inputs([_at(step)], pad_to="bucket")
            names = drive._names(inputs, _at(step).t0)
            prefix = _prefill(params, inputs, policy.config)
            found.append((inputs, (names, np.asarray(inputs.position_ids)[:, 0]), prefix))
        (_, old, before), (inputs, new, want) = found
        plan = plan_reuse(old, new, np.asarray(inputs.attention_mask)[0], moved=moved)
        scene = _scene_tokens(params, inputs)
        got = _refill(
            params, inputs, scene, before.cache, plan.source,
            jnp.asarray(plan.shift) if moved else None, plan.fresh, policy.config,
        )  # fmt: skip
        return got, want, plan

    def _distance(self, got, want):
        real = np.asarray(want.mask)[0]
        parts = [
            np.abs(np.asarray(a)[..., real, :] - np.asarray(b)[..., real, :]).max()
            for a, b in zip(*map(jax.tree.leaves, (got.cache, want.cache)))
        ]
        return max(*parts, float(np.abs(got.last_hidden - want.last_hidden).max()))

    def test_exact(self):
        got, want, plan = self._both(_policy().params, moved=False)
        assert (plan.source >= 0).sum() > 5 and self._distance(got, want) < 1e-4
        np.testing.assert_array_equal(got.mask, want.mask)

    def test_turned_keys_are_exact_where_tokens_do_not_look_at_each_other(self):
        params = jax.tree.map(np.array, _policy().params)
        got, want, plan = self._both(params, moved=True)
        assert plan.moved and self._distance(got, want) > 1e-2
        layers = params["vlm"]["language_model"]["layers"]
        layers["self_attn"]["o_proj"]["kernel"][:] = 0
        got, want, _ = self._both(params, moved=True)
        assert self._distance(got, want) < 1e-4
