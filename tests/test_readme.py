"""What the README says is so: its commands run, its flags exist, its tables are the code's."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import onnx
import onnxruntime
import pytest
from doors import ROOT, Command

from onnxprune.compare import compare_parser, comparison
from onnxprune.flags import (
    family_options,
    family_parser,
    inspect_parser,
    prune_options,
    prune_parser,
)

README = ROOT / "README.md"


def text() -> str:
    return README.read_text(encoding="utf-8")


def block(marker: str) -> str:
    """Return the code block behind a marker."""
    found = re.search(rf"<!-- {marker} -->\n+```\w*\n(.*?)\n```", text(), flags=re.DOTALL)
    assert found is not None, f"README.md has no code block behind <!-- {marker} -->"
    return found[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the files that a clone would have."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = [name for name in listed.stdout.decode().split("\0") if name] if listed.returncode == 0 else []
    if not names:
        pytest.skip("this is no clone of the repository")
    for name in names:
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_first_command_prunes_a_real_network(
    clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The virtual environment is the one the tests run in; the rest of the line is run as it stands."""
    steps = [shlex.split(step) for step in block("prune").split("&&")]
    assert [step[0] for step in steps] == ["python3", ".venv/bin/pip", ".venv/bin/onnxprune"]
    assert steps[0][1:] == ["-m", "venv", ".venv"] and steps[1][1] == "install" and steps[1][-1] == "."
    arguments = steps[2][1:]
    monkeypatch.chdir(clone)
    ran = Command(clone, capsys).done(*arguments)
    assert "parameters" in ran.out and "Sound" in ran.out
    source, out = Path(arguments[0]), Path(arguments[1])
    assert source.parent == Path("models") and out.stat().st_size < source.stat().st_size
    onnx.checker.check_model(out, full_check=True)
    assert onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"]).get_outputs()


def test_the_second_command_is_what_ci_runs() -> None:
    command = block("tests")
    assert "\n" not in command and all(
        tool in command for tool in ("venv", "'.[test]'", "ruff check", "mypy", "pytest")
    )
    script = (ROOT / ".ci" / "run").read_text()
    program = re.search(r"awk '(.*?)' README.md", script)
    assert program is not None
    found = subprocess.run(["awk", program[1], README], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == command


def test_every_command_that_is_mentioned_is_understood() -> None:
    mentioned = re.findall(r"`onnxprune ([^`]+)`|^\$ onnxprune (.+)$", text(), flags=re.MULTILINE)
    lines = [shlex.split(first or second) for first, second in mentioned]
    assert len(lines) >= 5
    for arguments in lines:
        if "--help" in arguments:
            continue
        if arguments[0] == "inspect":
            assert inspect_parser().parse_args(arguments[1:]).input
        elif arguments[0] == "compare":
            assert comparison(compare_parser().parse_args(arguments[1:])).seed == 0
        elif arguments[0] == "family":
            assert family_options(family_parser().parse_args(arguments[1:]))[1]
        else:
            options = prune_options(prune_parser().parse_args(arguments))
            assert options.ratio is not None or options.max_drop is not None
    helps = prune_parser().format_help() + family_parser().format_help() + compare_parser().format_help()
    known = set(re.findall(r"--[a-z][a-z-]+", helps)) | {"--help"}
    assert (
        set(re.findall(r"`[^`]*`", text()))
        and {flag for span in re.findall(r"`(--[^`]*)`", text()) for flag in re.findall(r"--[a-z][a-z-]+", span)}
        <= known
    )


def test_the_python_example_runs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", text(), flags=re.DOTALL)
    assert example is not None
    command.model("lenet-300-100.onnx").rename(command.folder / "in.onnx")
    monkeypatch.chdir(command.folder)
    names: dict[str, object] = {}
    exec(compile(example[1], "README.md", "exec"), names)
    result = names["result"]
    assert result.report["validation"]["twin"]["passed"]  # type: ignore[attr-defined]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "tools" / "readme_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["methods", "sparse", "operators"])
def test_the_tables_are_those_of_the_code(name: str) -> None:
    table = tool().tables()[name]
    assert table.count("\n") > 3
    found = re.search(rf"<!-- table:{name} -->\n(.*?)\n?<!-- end -->", text(), flags=re.DOTALL)
    assert found is not None and found[1].strip() == table, "run `python tools/readme_tables.py`"


def test_the_tool_fills_the_tables() -> None:
    filled = tool().filled(text())
    assert all(table in filled for table in tool().tables().values()) and tool().filled(filled) == filled
    outside = re.compile(r"(<!-- table:\w+ -->).*?(<!-- end -->)", flags=re.DOTALL)
    assert outside.sub("", filled) == outside.sub("", text())
