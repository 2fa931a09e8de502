"""Passes over graphs made by hand."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from alpamayo_jax.export import onnx_graph  # noqa: E402

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name, shape=(2,), kind=F32):
    return helper.make_tensor_value_info(name, kind, list(shape))


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(made, **inputs):
    onnx.checker.check_model(made)
    outputs = ReferenceEvaluator(made).run(None, inputs)
    return dict(zip([o.name for o in made.graph.output], outputs))


def looped():
    """y = 3 times (state = state * w + shift), with w and shift handed through the loop's state."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Neg", ["b_in"], ["minus"]),
            helper.make_node("Mul", ["s_in", "w_in"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "minus"], ["s_out"]),
            helper.make_node("Identity", ["w_in"], ["w_out"]),
            helper.make_node("Identity", ["b_in"], ["b_mid"]),
            helper.make_node("Identity", ["b_mid"], ["b_out"]),
        ],
        "body",
        [value("i", (), I64), value("going", (), BOOL)] + [value(f"{n}_in") for n in "wsb"],
        [value("still", (), BOOL)] + [value(f"{n}_out") for n in "wsb"],
    )
    loop = helper.make_node(
        "Loop", ["trips", "go", "layers.0.w", "x", "shift"], ["w_end", "y", "b_end"], body=body
    )
    after = helper.make_node("Add", ["y", "w_end"], ["z"])
    constants = [constant("trips", np.int64(3)), constant("go", np.True_)]
    inputs = [value("layers.0.w"), value("x"), value("shift")]
    return model([loop, after], inputs, [value("z")], constants)


FEEDS = {
    "layers.0.w": np.array([2.0, 3.0], np.float32),
    "x": np.array([1.0, -1.0], np.float32),
    "shift": np.array([0.5, 0.0], np.float32),
}


def test_loops_carry_only_what_changes():
    made = looped()
    want = run(made, **FEEDS)["z"]
    onnx_graph.hoist_invariants(made.graph)
    onnx_graph.prune(made.graph)
    loop = made.graph.node[0]
    assert list(loop.input) == ["trips", "go", "x"] and list(loop.output) == ["y"]
    (body,) = onnx_graph.subgraphs(loop)
    assert len(body.input) == 3 and len(body.output) == 2
    assert any("layers.0.w" in node.input for node in body.node)
    np.testing.assert_array_equal(run(made, **FEEDS)["z"], want)


def test_what_a_loop_does_not_change_is_computed_once():
    made = looped()
    want = run(made, **FEEDS)["z"]
    onnx_graph.hoist_invariants(made.graph)
    onnx_graph.hoist_computations(made.graph)
    assert [node.op_type for node in made.graph.node] == ["Neg", "Loop", "Add"]
    (body,) = onnx_graph.subgraphs(made.graph.node[1])
    assert "Neg" not in [node.op_type for node in body.node]
    np.testing.assert_array_equal(run(made, **FEEDS)["z"], want)


def test_names_of_bodies_are_their_own():
    made = looped()
    (body,) = onnx_graph.subgraphs(made.graph.node[0])
    for old, new in (("s_in", "x"), ("minus", "shift")):  # as converters name things
        for node in body.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for port in body.input:
            port.name = new if port.name == old else port.name
    onnx_graph.unique_values(made.graph)
    names = [name for node in onnx_graph.all_nodes(made.graph) for name in node.output]
    inner = [port.name for port in next(onnx_graph.subgraphs(made.graph.node[0])).input]
    assert len(set(names + inner + list(FEEDS))) == len(names) + len(inner) + len(FEEDS)
    # w 2, shift 0.5: ((1 2 + .5) 2 + .5) 2 + .5 = 11.5, and w is added.
    np.testing.assert_allclose(run(made, **FEEDS)["z"], [13.5, -24.0])


def test_identities_go_and_ports_stay():
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Identity", ["c"], ["y"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    made = model(nodes, [value("x")], [value("y"), value("same")])
    onnx_graph.drop_identities(made.graph)
    assert sorted(node.op_type for node in made.graph.node) == ["Identity", "Neg"]
    out = run(made, x=np.array([1.0, 2.0], np.float32))
    np.testing.assert_array_equal(out["y"], [-1.0, -2.0])
    np.testing.assert_array_equal(out["same"], [1.0, 2.0])


def test_shapes_that_are_known_are_constants():
    nodes = [
        helper.make_node("Concat", ["two", "three"], ["shape"], axis=0),
        helper.make_node("Cast", ["shape"], ["cast"], to=I64),
        helper.make_node("Reshape", ["x", "cast"], ["y"]),
    ]
    sizes = [constant("two", np.array([2])), constant("three", np.array([3]))]
    made = model(nodes, [value("x", (6,))], [value("y", (2, 3))], sizes)
    onnx_graph.fold_constants(made.graph)
    onnx_graph.prune(made.graph)
    assert [node.op_type for node in made.graph.node] == ["Reshape"]
    assert len(made.graph.initializer) == 1
    assert run(made, x=np.arange(6, dtype=np.float32))["y"].shape == (2, 3)


def test_large_results_stay_computed():
    node = helper.make_node("Expand", ["one", "shape"], ["big"])
    add = helper.make_node("Add", ["big", "x"], ["y"])
    sizes = [constant("one", np.float32([1])), constant("shape", np.array([100_000]))]
    made = model([node, add], [value("x", (1,))], [value("y", (100_000,))], sizes)
    onnx_graph.fold_constants(made.graph)
    assert [n.op_type for n in made.graph.node] == ["Expand", "Add"]


@pytest.mark.parametrize(
    ("equation", "operator"),
    [
        ("abc,cd->abd", "MatMul"),
        ("abcd, de -> abce", "MatMul"),
        ("abc,dc->abd", "Einsum"),  # transposed
        ("btgrh,bgsh->bgrts", "Einsum"),
        ("abc,cd->adb", "Einsum"),
    ],
)
def test_products_with_a_kernel_are_plain(equation, operator):
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation=equation)
    made = model([node], [value("x"), value("w")], [value("y")])
    onnx_graph.plain_matmuls(made.graph)
    assert made.graph.node[0].op_type == operator
    assert bool(made.graph.node[0].attribute) == (operator == "Einsum")


def test_nothing_unread_stays():
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("Add", ["x", "one"], ["unread"]),
        helper.make_node("Neg", ["unread"], ["unread_too"]),
    ]
    made = model(nodes, [value("x")], [value("y")], [constant("one", np.float32([1.0]))])
    onnx_graph.prune(made.graph)
    assert len(made.graph.node) == 1 and not made.graph.initializer


def test_ports_get_their_names():
    nodes = [helper.make_node("Neg", ["in_0"], ["v"]), helper.make_node("Abs", ["v"], ["actions"])]
    made = model(nodes, [value("in_0")], [value("v"), value("v"), value("in_0"), value("actions")])
    onnx_graph.name_ports(made.graph, ["noise"], ["actions", "again", "same", "size"])
    out = run(made, noise=np.array([1.0, -2.0], np.float32))
    assert list(out) == ["actions", "again", "same", "size"]
    np.testing.assert_array_equal(out["actions"], [-1.0, 2.0])
    np.testing.assert_array_equal(out["again"], [-1.0, 2.0])
    np.testing.assert_array_equal(out["same"], [1.0, -2.0])
    np.testing.assert_array_equal(out["size"], [1.0, 2.0])


def test_nodes_are_called_after_their_modules():
    weights = ["m.layers.0.norm.scale", "m.layers.0.mlp.up.kernel", "m.layers.1.norm.scale"]
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Mul", ["a", weights[0]], ["b"]),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Cast", [weights[1]], ["narrow"], to=F32),
        helper.make_node("Mul", ["c", "narrow"], ["d"]),
        helper.make_node("Neg", ["d"], ["e"]),
        helper.make_node("Mul", ["e", weights[2]], ["y"]),
    ]
    made = model(nodes, [value("x"), *map(value, weights)], [value("y")])
    onnx_graph.name_nodes(made.graph, weights)
    assert [node.name for node in made.graph.node] == [
        "Abs",
        "m/layers.0/norm/Mul",
        "m/layers.0/Neg",
        "m/layers.0/mlp/up/Cast",
        "m/layers.0/mlp/up/Mul",
        "m/Neg",
        "m/layers.1/norm/Mul",
    ]
    assert made.graph.node[1].output[0] == "m/layers.0/norm/Mul"
    assert made.graph.output[0].name == "y"
    ones = {name: np.ones(2, np.float32) for name in weights}
    np.testing.assert_array_equal(run(made, x=np.float32([1, -2]), **ones)["y"], [1.0, 2.0])


def test_loops_give_their_nodes_their_name():
    made = looped()
    onnx_graph.hoist_invariants(made.graph)
    onnx_graph.name_nodes(made.graph, ["layers.0.w"])
    names = [node.name for node in onnx_graph.all_nodes(made.graph)]
    assert "Loop" in names and "Loop/layers.0/Mul" in names
    np.testing.assert_allclose(run(made, **FEEDS)["z"], [13.5, -24.0])


def test_operators_are_counted_with_those_in_loops():
    assert onnx_graph.operators(looped()) == {
        "Add": 1, "Identity": 4, "Loop": 1, "Mul": 1, "Neg": 1, "Sub": 1,
    }  # fmt: skip
