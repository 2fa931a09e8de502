"""Pictures of a rollout: camera, view from above and reasoning at one tick, and all of them."""

from typing import Iterator

import numpy as np

from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.closed_loop.summary import ending, first_tick
from alpamayo_jax.ops.boxes import centre_pose
from alpamayo_jax.sim.scenes import AgentKind, Light
from alpamayo_jax.viz import style
from alpamayo_jax.viz.topdown import TopDown, caption

_VIEW = 560  # pixels, width and height of the view from above
_REACH = 30.0  # metres to either side
_CAMERA = 640  # width of the camera image
_MARGIN_TICKS = 10  # shown after what ended a rollout
_ROAD, _LANE, _EDGE = (0.90, 0.91, 0.93), (0.78, 0.80, 0.83), (0.45, 0.47, 0.50)
_WALK, _STOP = (0.82, 0.84, 0.95), (0.75, 0.30, 0.25)
_KINDS = {
    AgentKind.VEHICLE: (0.45, 0.55, 0.68),
    AgentKind.CYCLIST: (0.60, 0.40, 0.75),
    AgentKind.PEDESTRIAN: (0.86, 0.40, 0.50),
    AgentKind.OBJECT: (0.85, 0.55, 0.20),
}
_LIGHTS = {
    Light.UNKNOWN: (0.6, 0.6, 0.6),
    Light.RED: (0.85, 0.10, 0.10),
    Light.YELLOW: (0.95, 0.75, 0.10),
    Light.GREEN: (0.10, 0.65, 0.25),
}
_HIT = (0.85, 0.05, 0.05)


def from_above(run: Run, scene: int, rollout: int, tick: int) -> np.ndarray:
    """uint8 [560, 560, 3]: the map, who is there, the plan, the recording; the ego heads up."""
    arrays, rolled = run.scenes[scene].arrays, run.rollout
    pose = rolled.ego_pose[scene, rollout, tick]
    view = TopDown(pose, (_VIEW, _VIEW), reach=_REACH)
    for polygon in arrays.drivable[arrays.drivable_valid]:
        view.polygon(polygon, _ROAD)
    for polygon in arrays.lane_polygon[arrays.lane_valid]:
        view.polygon(polygon, _ROAD)
    for line in arrays.lane_centre[arrays.lane_valid]:
        view.line(line, _LANE, 1.0)
    for polygon in arrays.crosswalk[arrays.crosswalk_valid]:
        view.polygon(polygon, _WALK)
    for line in arrays.road_edge[arrays.road_edge_valid]:
        view.line(line, _EDGE, 1.5)
    for line in arrays.stop_line[arrays.stop_line_valid]:
        view.line(line, _STOP, 2.0)
    last = int(arrays.num_ticks) - 1
    for line, states in zip(arrays.light_stop[arrays.light_valid], arrays.light_state):
        view.line(line, _LIGHTS[Light(int(states[min(tick, last)]))], 4.0)
    view.line(arrays.ego_pose[: last + 1, :2], style.RECORDED, 2.0)
    view.line(rolled.ego_pose[scene, rollout, : tick + 1, :2], style.HISTORY, 2.5)
    agents = rolled.agent_pose[scene, rollout, :, tick]
    there = rolled.agent_present[scene, rollout, :, tick]
    for i in np.flatnonzero(there[: len(arrays.agent_size)]):
        length, width, _ = arrays.agent_size[i]
        view.box(agents[i], length, width, _KINDS[AgentKind(int(arrays.agent_kind[i]))])
    if rolled.planned[scene, rollout, tick]:
        if rolled.samples is not None:
            for sample in rolled.samples[scene, rollout, tick]:
                view.line(sample, (0.98, 0.80, 0.60), 1.0)
        view.line(rolled.plan[scene, rollout, tick, :, :2], style.sample_colors(1)[0], 2.5)
    length, width, _, offset = arrays.ego_box
    end = ending(run, scene, rollout)
    hit = end.event and tick >= end.tick
    centre = np.asarray(centre_pose(pose, offset, length))
    view.box(centre, length, width, _HIT if hit else style.EGO)
    return view.pixels()


def reasoning_at(run: Run, scene: int, rollout: int, tick: int) -> str:
    """The newest text of a rollout at a tick."""
    said = [text for at, text in run.reasoning[scene][rollout] if at <= tick]
    return said[-1] if said else ""


def frame(
    run: Run, scene: int, rollout: int, tick: int, cameras: SceneCameras | None
) -> np.ndarray:
    """One picture of a tick: view from above, and beside it camera and words."""
    above = from_above(run, scene, rollout, tick)
    lines = _lines(run, scene, rollout, tick)
    one = run.scenes[scene]
    if cameras is None or one.world is None:
        return np.concatenate([above, caption(lines, (_CAMERA // 2, _VIEW))], axis=1)
    rolled = run.rollout
    pose, agents = rolled.ego_pose[scene, rollout, tick], rolled.agent_pose[scene, rollout, :, tick]
    image = cameras.draw(one, tick, pose, agents)[cameras.front]
    scale = _CAMERA // image.shape[1] or 1
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)[:_VIEW]
    words = caption(lines, (image.shape[1], _VIEW - len(image)))
    return np.concatenate([np.concatenate([image, words]), above], axis=1)


def _lines(run: Run, scene: int, rollout: int, tick: int) -> list[str]:
    one, end = run.scenes[scene], ending(run, scene, rollout)
    speed = float(run.rollout.ego_speed[scene, rollout, tick])
    lines = [f"{one.name}, rollout {rollout}", f"{0.1 * tick:.1f} s, {speed:.1f} m/s"]
    if tick < int(first_tick(run)[scene, rollout]):
        lines.append("warm-up: follows the recording")
    if end.event and tick >= end.tick:
        lines.append(f"It {end.words}.")
    text = reasoning_at(run, scene, rollout, tick)
    return [*lines, text] if text else lines


def frames(
    run: Run, scene: int, rollout: int, cameras: SceneCameras | None
) -> Iterator[np.ndarray]:
    """Pictures of all ticks until shortly after what ended the rollout."""
    last = int(run.rollout.num_ticks[scene, rollout]) - 1
    stop = min(ending(run, scene, rollout).tick + _MARGIN_TICKS, last)
    for tick in range(stop + 1):
        yield frame(run, scene, rollout, tick, cameras)


def strip_ticks(run: Run, scene: int, rollout: int, count: int = 4) -> list[int]:
    """Ticks worth a picture: evenly spread from the first plan to the end, both included."""
    begin, end = int(first_tick(run)[scene, rollout]), ending(run, scene, rollout).tick
    return sorted({int(round(t)) for t in np.linspace(begin, end, count)})

