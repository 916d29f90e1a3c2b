"""The house as drawn in the design: imports go down, never in a circle; every module says what it knows and offers."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import onnxprune

ROOT = Path(onnxprune.__file__).parent
FLOORS = (
    {"errors", "threads"},
    {"extras"},
    {"coreset", "graph"},
    {"shapes"},
    {"ops", "methods", "prepare"},
    {"budget", "gradient"},
    {"coupling"},
    {"calibrate"},
    {"rewrite"},
    {"validate"},
    {"evaluate", "reconstruct"},
    {"salience"},
    {"distill"},
    {"report", "progress", "parsing"},
    {"options"},
    {"analysis"},
    {"curves", "score", "workpiece"},
    {"choose", "facts", "flags", "profile", "refine", "reinit", "renew"},
    {"certify", "delivery"},
    {"decide"},
    {"search"},
    {"pipeline"},
    {"family", "sparsify"},
    {"compare"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
)
# Who may import what of the world of ONNX; runtime and graphsurgeon have one door each.
DOORS = {"onnxruntime": {"graph"}, "onnx_graphsurgeon": {"graph"}}
BLIND = {
    "parsing",
    "errors",
    "extras",
    "coreset",
    "methods",
    "budget",
    "report",
    "progress",
    "options",
    "flags",
    "facts",
    "cli",
}
LINES = 400

MODULES = {
    "onnxprune." + ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}
EVERY = pytest.mark.parametrize("name", MODULES)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(name: str) -> Iterator[str]:
    """Every module of the house or the world that a module imports; a package stands for its `__init__`."""
    for node in ast.walk(MODULES[name]):
        for target in [alias.name for alias in node.names] if isinstance(node, ast.Import) else []:
            yield f"{target}.__init__" if f"{target}.__init__" in MODULES else target
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (module for module in inner if module in MODULES)
            if not all(module in MODULES for module in inner):
                yield f"{node.module}.__init__" if f"{node.module}.__init__" in MODULES else str(node.module)


@EVERY
def test_imports_go_down(name: str) -> None:
    floor = {member: level for level, members in enumerate(FLOORS) for member in members}
    for target in imports(name):
        if target.startswith("onnxprune") and room(target) != room(name):
            assert floor[room(target)] < floor[room(name)], f"{name} imports {target}"
        outside = target.split(".")[0]
        assert room(name) in DOORS.get(outside, {room(name)}), f"{name} imports {outside}"
        assert outside != "onnx" or room(name) not in BLIND, f"{name} imports onnx"


def test_no_circle() -> None:
    graph = {name: {target for target in imports(name) if target in MODULES} for name in MODULES}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(MODULES)


@EVERY
def test_imports_stand_at_the_top(name: str) -> None:
    top = {id(node) for node in MODULES[name].body}
    inner = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(id(node) in top for node in inner)


@EVERY
def test_every_module_says_what_it_knows_and_offers(name: str) -> None:
    tree = MODULES[name]
    assert ast.get_docstring(tree), "a module opens with a sentence"
    if len(tree.body) == 1 or name.endswith("__main__"):
        return
    assigned = [(node, n.id) for node in tree.body for n in ast.walk(node) if isinstance(n, ast.Name)]
    defined = {n for node, n in assigned if isinstance(node, ast.Assign | ast.AnnAssign)}
    public = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"}
    brought = {a.asname or a.name for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    offers = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and _is_all(n)]
    assert len(offers) == 1, "a module has one __all__"
    assert public <= set(offers[0]) <= public | defined | brought
    assert len(set(offers[0])) == len(offers[0])


def _is_all(node: ast.Assign) -> bool:
    return [target.id for target in node.targets if isinstance(target, ast.Name)] == ["__all__"]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES
