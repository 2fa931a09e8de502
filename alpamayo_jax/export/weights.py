"""Parameters by dotted name, layer by layer where programs have no loop over layers."""

from typing import Any, Mapping

import jax

from alpamayo_jax.layers.stack import Layers

# Subtrees whose leaves have a leading layer axis.
STACKED = ("blocks", "layers", "deepstack_merger_list", "image_layers", "cross_layers")

# What each stage reads, as the beginnings of names.
READS = {
    "vision": ("vlm.visual.", "vlm.scene."),
    "prefill": ("vlm.language_model.", "vlm.lm_head."),
    "decode_step": ("vlm.language_model.", "vlm.lm_head."),
    "flow_step": ("expert.", "action_in_proj.", "action_out_proj."),
    "flow_loop": ("expert.", "action_in_proj.", "action_out_proj."),
    "trajectory": (),
    "policy": ("vlm.", "expert.", "action_in_proj.", "action_out_proj."),
}
_PRETRAINING = "vlm.scene.decoder."  # renders images from planes; no program drives with it


def named(params: Mapping[str, Any], *, by_layer: bool) -> dict[str, Any]:
    """Dotted name -> leaf of a parameter tree.

    Args:
      params: nested dict; leaves are arrays or `jax.ShapeDtypeStruct`.
      by_layer: every layer of a stacked leaf has an entry of its own, with its number in the name.
    """
    found: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key in sorted(tree):
            here = (*path, key)
            if isinstance(tree[key], Mapping):
                walk(tree[key], here)
            elif by_layer and (place := _stack(here)) is not None:
                for layer in range(tree[key].shape[0]):
                    name = ".".join((*here[:place], str(layer), *here[place:]))
                    found[name] = _slice(tree[key], layer)
            else:
                found[".".join(here)] = tree[key]

    walk(params, ())
    return found


def nested(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter tree of `named` weights; numbered layers become `Layers`."""
    tree: dict[str, Any] = {}
    layers: dict[tuple[str, ...], dict[int, Any]] = {}
    for name, leaf in weights.items():
        path = tuple(name.split("."))
        place = _stack(path)
        if place is not None and path[place].isdecimal():
            layers.setdefault((*path[:place], *path[place + 1 :]), {})[int(path[place])] = leaf
        else:
            _put(tree, path, leaf)
    for path, arrays in layers.items():
        _put(tree, path, Layers([arrays[i] for i in range(len(arrays))]))
    return tree


def read_by(stage: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that a stage reads."""
    return {
        name: leaf
        for name, leaf in weights.items()
        if name.startswith(READS[stage]) and not name.startswith(_PRETRAINING)
    }


def _stack(path: tuple[str, ...]) -> int | None:
    """Index in `path` right after the name of a stacked subtree, or None."""
    for place, key in enumerate(path[:-1]):
        if key in STACKED:
            return place + 1
    return None


def _slice(leaf: Any, layer: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[layer]


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf
