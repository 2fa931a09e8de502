"""How much of a scene the triplane learns from its own cameras: a view that no camera had.

One moment of a simulated drive is seen by cameras with overlapping views. The vision tower and the
triplane learn to render all of them but one, which is rendered in the end.
"""

import dataclasses
import os
from typing import Any, Callable

import jax
import jax.numpy as jnp
from matplotlib.colors import LogNorm
from matplotlib.ticker import NullFormatter, ScalarFormatter
import numpy as np
import optax

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import new_policy
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.losses import masked_mean
from alpamayo_jax.sim.camera import CameraSpec
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.train import rendering
from alpamayo_jax.types import ModelInputs
from alpamayo_jax.viz import style

# Index 1 is held out: between its neighbours, and at another height.
RIG = tuple(
    CameraSpec(f"view{i}", i, 80.0, "pinhole", (1.7, y, z), yaw, -6.0)
    for i, (y, z, yaw) in enumerate(
        ((0.8, 1.5, 12.0), (0.2, 1.8, 3.0), (-0.8, 1.5, -12.0), (0.0, 2.2, 0.0), (0.0, 1.3, 0.0))
    )
)
HELD_OUT = 1
_T0 = 4.0  # seconds into the drive
_PANEL, _GAP, _TITLE, _BAR = 480, 16, 40, 60  # pixels of a picture


@dataclasses.dataclass(frozen=True)
class NovelView:
    """What came of it.

    Attributes:
      losses: of every step.
      psnr: dB, of the held-out view.
      psnr_inputs: dB, of the last step's rays through the input images.
      psnr_mean_colour: dB, of the held-out view painted in the mean colour of the inputs.
      rendered: uint8 [height, width, 3].
      seen: uint8 [height, width, 3], what the held-out camera saw.
      depth: float32 [height, width], metres.
    """

    losses: list[float]
    psnr: float
    psnr_inputs: float
    psnr_mean_colour: float
    rendered: np.ndarray
    seen: np.ndarray
    depth: np.ndarray

    @property
    def fall(self) -> float:
        """By which share the loss fell; ends are means of ten steps."""
        return 1.0 - float(np.mean(self.losses[-10:]) / np.mean(self.losses[:3]))


def finer(config: ModelConfig, factor: int) -> ModelConfig:
    """The same triplane with `factor` times as many cells along each axis, for sharper pictures.

    Its tokens stay the same, as the patches grow too.
    """
    c = config.scene.triplane
    grown = dataclasses.replace(
        c,
        grid=tuple(factor * cells for cells in c.grid),
        patch=tuple(factor * cells for cells in c.patch),
        inner_cells_xy=factor * c.inner_cells_xy,
        inner_cells_z=factor * c.inner_cells_z,
    )
    scene = dataclasses.replace(config.scene, triplane=grown)
    return dataclasses.replace(config, scene=scene)


def learn_scene(
    config: ModelConfig,
    *,
    steps: int = 300,
    rays: int = 512,
    learning_rate: float = 3e-3,
    seed: int = 0,
    image_size: tuple[int, int] = (160, 96),
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> NovelView:
    """Learns one scene.

    Args:
      config: with compressor "triplane".
      steps: of Adam.
      rays: per step.
      learning_rate: falls to 0 by a cosine.
      seed: of the drive, the parameters and the rays.
      image_size: width and height of the images.
      progress: called with the step and its loss.

    Raises:
      ConfigError: the model has no triplane.
    """
    clip = procedural_clip(seed, 0, seconds=12.0, cameras=RIG, image_size=image_size)
    policy = new_policy(config, jax.random.key(seed))
    inputs_of = [i for i in range(len(RIG)) if i != HELD_OUT]
    inputs = policy.processor.inputs([observe(clip, _T0, 1, inputs_of)])
    inputs = jax.tree.map(jnp.asarray, inputs)
    rendering.check(config, rays)
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(trained: dict, key: jax.Array):
        params = {**policy.params, "vlm": {**policy.params["vlm"], **trained}}
        drawn = rendering.draw_rays(inputs, config, rays, key)
        error, _ = rendering.render_loss(params, drawn, inputs, Alpamayo(config))
        return masked_mean(error, drawn.valid)

    @jax.jit
    def step(trained, state, key):
        value, slope = jax.value_and_grad(loss)(trained, key)
        change, state = optimiser.update(slope, state)
        return optax.apply_updates(trained, change), state, value

    trained = {name: policy.params["vlm"][name] for name in ("visual", "scene")}
    state, losses, rng = optimiser.init(trained), [], jax.random.key(seed + 1)
    for number in range(steps):
        trained, state, value = step(trained, state, jax.random.fold_in(rng, number))
        losses.append(float(value))
        progress(number, losses[-1])
    params = {**policy.params, "vlm": {**policy.params["vlm"], **trained}}
    return _look(params, config, clip, inputs, losses)


def picture(found: NovelView, path: str | os.PathLike | None = None) -> bytes:
    """The held-out camera's image, what was rendered, and its depth, labelled: a PNG.

    Args:
      found: what was learnt.
      path: where it is written; None: nowhere.
    """
    height, width = found.depth.shape
    scale = max(1, round(_PANEL / width))
    wide, high = scale * width, scale * height
    page = style.Page(3 * wide + 4 * _GAP + _BAR, high + _TITLE + _GAP)
    panels = (
        ("Held-out camera", found.seen),
        (f"Rendered, {found.psnr:.1f} dB", found.rendered),
    )
    for number, (title, pixels) in enumerate(panels):
        x = _GAP + number * (wide + _GAP)
        page.text(x, 10, title, 12, bold=True)
        page.image(x, _TITLE, pixels.repeat(scale, 0).repeat(scale, 1))
    x = _GAP + 2 * (wide + _GAP)
    page.text(x, 10, "Depth, metres", 12, bold=True)
    axes = page.axes(x, _TITLE, wide, high)
    # On a logarithmic scale, as the points of a ray lie; nearer is brighter.
    shown = axes.imshow(
        found.depth, cmap="magma_r", norm=LogNorm(), interpolation="nearest", aspect="auto"
    )
    axes.set_axis_off()
    bar = page.figure.colorbar(shown, cax=page.axes(x + wide + 10, _TITLE, 14, high))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=10, labelcolor=style.INK)
    bar.outline.set_visible(False)
    return page.png(path)


def _look(params: dict, config: ModelConfig, clip: Any, inputs: ModelInputs, losses) -> NovelView:
    model = Alpamayo(config)
    apply = lambda *args, method: model.apply({"params": params}, *args, method=method)  # noqa: E731

    @jax.jit
    def planes_of(inputs):
        return apply(apply(inputs, method="image_features"), inputs, method="triplane")

    camera = clip.camera(HELD_OUT)
    seen = camera.read(int(np.argmin(np.abs(camera.times - _T0))))
    rays = rendering.camera_rays(
        camera.intrinsics, camera.ego_from_camera, camera.width, camera.height
    )
    colour, depth = jax.jit(lambda planes: rendering.render(params, planes, rays, model))(
        planes_of(inputs)
    )
    shape = camera.height, camera.width
    colour, want = np.asarray(colour).reshape(*shape, 3), seen / 255.0
    others = [clip.camera(c.index).read(0) for c in RIG if c.index != HELD_OUT]
    mean = np.mean([image.reshape(-1, 3).mean(0) for image in others], 0) / 255.0
    return NovelView(
        losses=losses,
        psnr=rendering.psnr(colour, want),
        psnr_inputs=float(-10 * np.log10(np.mean(losses[-10:]))),
        psnr_mean_colour=rendering.psnr(np.broadcast_to(mean, want.shape), want),
        rendered=np.clip(np.round(colour * 255), 0, 255).astype(np.uint8),
        seen=seen,
        depth=np.asarray(depth).reshape(shape),
    )
