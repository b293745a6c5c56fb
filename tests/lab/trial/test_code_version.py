"""A trial's id changes with the code that decides its outcome, and with nothing else."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from adapterlab.adapters import load_file
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors.worker import perform, start
from adapterlab.lab.trial.code_version import code_version, decisive_files, registered
from adapterlab.lab.trial.import_closure import PACKAGE, ROOT, ImportClosure, Module
from adapterlab.lab.trial.source_reader import parse
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.fingerprint import fingerprint
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks import load_file as load_task_file
from adapterlab.tasks.base import Task
from adapterlab.tasks.files import FileData, task_of
from tests.adapters.methods import SHIPPED, small
from tests.lab.tiny import save_model
from tests.tasks.user_files import completions, labelled, texts, write

PAIRS = [
    ("lora", "prose"),
    ("oft", "prose"),
    ("oftv2", "mixture"),
    ("poly", "mixture"),
    ("antipasto", "steer"),
    (FROZEN, "restyle"),
]
THEMES = [f"adapters/{folder.name}/" for folder in (ROOT / PACKAGE / "adapters").iterdir() if folder.is_dir()]


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A folder with a copy of the package's source."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / PACKAGE, root / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "base", "*.jinja"))
    shutil.copytree(ROOT / PACKAGE / "models/base", root / PACKAGE / "models/base")
    return root


def versions(root: Path = ROOT) -> dict[tuple[str, str], str]:
    closure = ImportClosure(root, registered())
    return {pair: version(*pair, closure) for pair in PAIRS}


def version(adapter: str, task_name: str, closure: ImportClosure | None = None) -> str:
    return code_version(adapter, task(task_name), closure)


def files_of(adapter: str, the_task: str | Task) -> set[str]:
    return {label for label, _ in decisive_files(adapter, task(the_task) if isinstance(the_task, str) else the_task)}


@pytest.fixture(scope="module")
def undisturbed(copied) -> dict[tuple[str, str], str]:
    return versions(copied)


@pytest.fixture
def changed(copied, undisturbed):
    """The pairs whose hash differs while a file of the copy has another text."""

    def run(file: str, text: str) -> set[tuple[str, str]]:
        path = copied / file
        before = path.read_text("utf-8")
        assert text != before, file
        try:
            path.write_text(text, "utf-8")
            return {pair for pair, version in versions(copied).items() if version != undisturbed[pair]}
        finally:
            path.write_text(before, "utf-8")

    return run


EVERY = sorted({file for pair in PAIRS for file in files_of(*pair)})
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def parts_that_run(tree: ast.AST):
    """The nodes of a module without docstrings and blocks for type checkers."""
    for child in ast.iter_child_nodes(tree):
        docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not docstring and not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from parts_that_run(child)


def with_another_constant(text: str) -> str:
    tree = ast.parse(text)
    for node in parts_that_run(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
            node.value += "x" if isinstance(node.value, str) else 1
            return ast.unparse(tree)
    return f"{text}\nADDED = 1\n"


def with_another_operator(text: str) -> str:
    tree = ast.parse(text)
    for node in parts_that_run(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
            node.op = OPERATORS[type(node.op)]()
            return ast.unparse(tree)
        if isinstance(node, ast.Compare):
            node.ops[0] = OPERATORS[type(node.ops[0])]()
            return ast.unparse(tree)
    return with_another_constant(text)


@pytest.mark.parametrize("mutate", [with_another_constant, with_another_operator])
def test_one_change_in_any_file_changes_the_trials_that_it_decides_and_no_others(copied, changed, mutate):
    for file in EVERY:
        decided = {pair for pair in PAIRS if file in files_of(*pair)}
        assert changed(file, mutate((copied / file).read_text("utf-8"))) == decided, file


def other_words(text: str) -> str:
    """The same program with other docstrings, other comments and another layout."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = "Other words.\n\nAnd more of them."
    lines = ast.unparse(tree).replace("\n\n", "\n\n# A comment.\n\n")
    return f"# Another head.\n\n{lines}\n\n\n# Another end.\n"


def test_other_docstrings_comments_and_layout_change_nothing(tmp_path):
    before = versions()
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(other_words(file.read_text("utf-8")), "utf-8")
        assert copy.read_text("utf-8") != file.read_text("utf-8")
    assert versions(tmp_path) == before


def test_a_docstring_more_or_less_changes_nothing(copied, changed):
    file = "adapterlab/adapters/rotations.py"
    tree = ast.parse((copied / file).read_text("utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    for node in documented:
        node.body = node.body[ast.get_docstring(node) is not None :]
    assert changed(file, ast.unparse(tree)) == set()
    for node in documented:
        node.body.insert(0, ast.Expr(ast.Constant("Short.")))
    assert changed(file, ast.unparse(tree)) == set()


def test_a_wrong_rotation_changes_the_methods_that_rotate_by_it(copied, changed):
    text = (copied / PACKAGE / "adapters/rotations.py").read_text("utf-8")
    wrong = changed(f"{PACKAGE}/adapters/rotations.py", text.replace("inv_ex(eye - q,", "inv_ex(eye - q / 2,"))
    assert {adapter for adapter, _ in wrong} == {"oft", "oftv2", "antipasto"}


@pytest.mark.parametrize(
    ("file", "only"),
    [
        ("adapters/rebuild.py", None),
        ("adapters/adapter_types.py", None),
        ("adapters/base.py", None),
        ("adapters/orthogonal/oft.py", {"oft", "oftv2"}),
        ("models/loading.py", None),
        ("lab/trial/train.py", None),
        ("lab/trial/batched.py", None),
        ("lab/trial/sharded.py", None),
        ("lab/trial/checkpointing.py", None),
        ("lab/run/executors/worker.py", None),
        ("surgery/sites/residual.py", None),
        ("tasks/text.py", None),
        ("tasks/mixture.py", {"oftv2", "poly"}),
        ("tasks/facts.py", {"oftv2", "poly"}),
        ("tasks/prose.py", {"lora", "oft", "oftv2", "poly", "antipasto"}),
    ],
)
def test_code_outside_a_methods_own_file_counts(copied, changed, file, only):
    """`only` names the adapters whose trials change; None: all of them."""
    text = (copied / PACKAGE / file).read_text("utf-8")
    expected = {adapter for adapter, _ in PAIRS if only is None or adapter in only}
    assert {adapter for adapter, _ in changed(f"{PACKAGE}/{file}", with_another_constant(text))} == expected


def test_a_new_method_counts_with_its_own_helper_and_counts_for_no_other(copied):
    folder = copied / PACKAGE / "adapters/rank"
    before = versions(copied)
    (folder / "brand_new.py").write_text("from adapterlab.adapters.rank.brand_new_helper import half\n")
    (folder / "brand_new_helper.py").write_text("def half(x):\n    return x / 2\n")
    closure = ImportClosure(copied, registered())
    labels = [module.label for module in closure.modules([closure.module("adapterlab.adapters.rank.brand_new")])]
    assert labels == ["adapterlab/adapters/rank/brand_new.py", "adapterlab/adapters/rank/brand_new_helper.py"]
    assert versions(copied) == before
    for name in ("brand_new.py", "brand_new_helper.py"):
        (folder / name).unlink()


def test_a_method_counts_its_own_file_and_bases_and_no_other_method():
    for name, method in SHIPPED.items():
        own = {f"{kind.__module__.replace('.', '/')}.py" for kind in method.__mro__}
        others = {file for file in files_of(name, "prose") if any(theme in file for theme in THEMES)} - own
        # These read or write PEFT's LoRA or prompts as their own; the starts of LoRA are in a file of their own.
        lora = {"adapterlab/adapters/rank/lora.py", "adapterlab/adapters/rank/lora_starts.py"}
        exported = dict.fromkeys(("adalora", "dora", "lora", "pissa"), lora)
        exported["ptuning_v2"] = {"adapterlab/adapters/boundary/prompt.py"}
        assert others == exported.get(name, set()) - own, name


def test_a_task_counts_no_other_task_but_those_that_it_is_made_of():
    files = {
        name: f"adapterlab/tasks/{name}.py" for name in all_tasks() if (ROOT / f"adapterlab/tasks/{name}.py").exists()
    }
    parts = {"mixture": {"restyle", "prose", "facts", "algorithm"}, "steer": {"prose"}, "persona": {"steer", "prose"}}
    for name in files:
        counted = {other for other, file in files.items() if file in files_of("lora", name)}
        assert counted == {name} | parts.get(name, set())


def test_the_command_line_the_reports_and_the_analysis_name_no_trial():
    """A change in them must not throw a ledger away."""
    allowed = (
        *("adapters", "surgery", "tasks", "models", "lab/trial", "errors.py", "input_files.py", "user_code.py"),
        *("names.py", "files.py"),
        *("lab/run/executors/worker.py", "lab/run/executors/base.py"),
    )
    for adapter, task_name in PAIRS:
        for file in files_of(adapter, task_name):
            assert file.startswith(tuple(f"{PACKAGE}/{place}" for place in allowed)), file


def test_code_that_acts_when_it_is_imported_counts_for_every_trial():
    """Such code may change other modules, and the package's `__init__` files and registries import more than is counted."""
    closure = ImportClosure()
    places = ("adapters", "surgery", "tasks", "models", "lab/trial", "errors.py", "user_code.py", "__init__.py")
    files = [file for place in places for file in (ROOT / PACKAGE / place, *(ROOT / PACKAGE / place).rglob("*.py"))]
    modules = {Module(file, ROOT, PACKAGE) for file in files if file.is_file()}
    counted = set.intersection(*(files_of(*pair) for pair in PAIRS))
    assert len(modules) > 90
    assert {module.label for module in modules if closure.parsed(module).acts} <= counted
    computed = {module.name for module in modules if closure.parsed(module).computed}
    assert computed == {"adapterlab", "adapterlab.adapters", "adapterlab.tasks", "adapterlab.lab.trial.late_import"}


def test_the_hash_does_not_depend_on_the_folder(copied):
    assert versions(copied) == versions() == {pair: version(*pair) for pair in PAIRS}


SYNTAX = r"""
from __future__ import annotations
def f(x: int, *a, k=1, **b) -> str:
    y = f"a{x!r:>{k}}b" "c" f"{x = }" u"d" "\N{EM DASH}" rf"\d{x:{k}.2f}{{}}"
    match x:
        case {"a": 1, **rest}: return (x, *a)
        case [1, *_] | None: pass
    for i in (*a, 1): yield i, *a
    with (open(x) as q, open(y)): del q
    try: raise E from None
    except* E as g: ...
    async def h(): return [z async for z in y if (w := z)], {**b}, 1e3, 1_000, 0x10, -1, 1j, ..., b"x", True
    x[1:2, ...], x[*a] = lambda a, /, b=1, *, c: a @ b, not x
"""


def test_the_hash_does_not_depend_on_the_version_of_python():
    """Trials are reused under another version; the value was computed under 3.11, 3.12 and 3.13."""
    assert parse(SYNTAX, "").digest == "fe8f940e21e29b52d3f6b62f"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def trial_of(model: Path, adapter: str, the_task: Task) -> Trial:
    settings = {"name": FROZEN} if adapter == FROZEN else small(adapter).settings()
    return Trial(
        model=str(model),
        model_hash=fingerprint(str(model)),
        task=the_task.name,
        data=the_task.fingerprint(),
        adapter=json.dumps(settings, sort_keys=True),
        targets="all-linear",
        lr=1e-3,
        seed=1,
        steps=2,
        batch=2,
        length=128,
        parts=tuple(part.value for part in the_task.parts),
        windows=4,
        curve_every=1,
        code=code_version(adapter, the_task),
        path=(0.5,),
    )


def executed(run) -> set[str]:
    """The files of the package in which a function was called."""
    found: set[str] = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return {Path(file).relative_to(ROOT).as_posix() for file in found if file.startswith(f"{ROOT / PACKAGE}/")}


@pytest.mark.parametrize(
    ("adapter", "task_name"),
    [
        *(pair for pair in PAIRS if pair[1] != "mixture"),  # whose examples take a while to make
        *(("lora", name) for name in ("texts", "answers", "labels")),
        *((name, "facts") for name in ("prefix", "prompt", "clover", "reft", "adalora", "bone", "xlora", "full_ft")),
    ],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_every_function_that_a_trial_calls_is_in_a_file_that_counts(model, tmp_path, adapter, task_name):
    own, data = {"texts": texts(60), "answers": completions(60), "labels": labelled(60)}, []
    if task_name in own:
        data = [FileData(task_name, write(tmp_path / f"{task_name}.jsonl", own[task_name]))]
    the_task = task_of(data[0]) if data else task(task_name)
    trial = trial_of(model, adapter, the_task)

    batched = (adapter, task_name) == ("lora", "prose")

    def work():
        runner = start(WorkerConfig(data=data, checkpointing=True))
        for job in ((trial,), (trial, replace(trial, seed=2)))[: 2 if batched else 1]:
            assert {finished.outcome.status for finished in perform(runner, job)} == {"ok"}

    called = executed(work)
    assert f"{PACKAGE}/lab/trial/train.py" in called
    assert (f"{PACKAGE}/lab/trial/batched.py" in called) == batched
    assert called <= files_of(adapter, the_task)


METHOD = """
from dataclasses import dataclass
{imports}

@dataclass(frozen=True)
class Own({base}):
    name = {name!r}
    rank: int = 3
"""


def method(path: Path, name: str, imports: str, base: str = "LoRA") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(METHOD.format(name=name, imports=imports, base=base))
    return path


FROM_LORA = "from adapterlab.adapters.rank.lora import LoRA"


def version_now(adapter: str, task_name: str = "prose") -> str:
    """The hash that a new process would compute."""
    return version(adapter, task_name, ImportClosure(registries=registered()))


def changes(adapter: str, path: Path, task_name: str = "prose") -> bool:
    before, text = version_now(adapter, task_name), path.read_text()
    path.write_text(f"{text}\n# A comment.\n")
    assert version_now(adapter, task_name) == before
    path.write_text(f"{text}\nADDED = 1\n")
    return version_now(adapter, task_name) != before


def forget(name: str) -> None:
    del sys.modules[Adapter.registry.pop(name).__module__]


def test_a_users_file_counts_for_its_own_method_wherever_it_is(tmp_path):
    load_file(method(tmp_path / "a/mine.py", "mine", FROM_LORA))
    assert "mine.py" in files_of("mine", "prose")
    assert "adapterlab/adapters/rank/lora.py" in files_of("mine", "prose")
    assert changes("mine", tmp_path / "a/mine.py")
    assert not changes("lora", tmp_path / "a/mine.py")


def test_the_same_file_in_another_folder_has_the_same_hash(tmp_path):
    found = []
    for folder in ("a", "b"):
        load_file(method(tmp_path / folder / "mine.py", "mine", FROM_LORA))
        found.append(version_now("mine"))
        forget("mine")
    assert found[0] == found[1]


def test_a_base_class_in_another_of_the_users_files_counts(tmp_path):
    load_file(method(tmp_path / "first.py", "first", FROM_LORA))
    second = method(
        tmp_path / "second.py", "second", "from adapterlab.adapters.base import Adapter", "Adapter.registry['first']"
    )
    load_file(second)
    assert changes("second", tmp_path / "first.py")
    assert not changes("first", second)


def test_files_beside_a_users_file_and_on_the_path_count(tmp_path, monkeypatch):
    lab = tmp_path / "elsewhere/mylab"
    method(lab / "methods/base.py", "from_mylab", f"{FROM_LORA}\nfrom ..scale import SCALE")
    (lab / "__init__.py").write_text("")
    (lab / "scale.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "study")
    (tmp_path / "study").mkdir()
    (tmp_path / "study/beside.py").write_text("import torch\n\ndef late():\n    import later\n")
    (tmp_path / "study/later.py").write_text("X = 1\n")
    (tmp_path / "study/unused.py").write_text("X = 1\n")
    imports = "import beside\nfrom mylab.methods.base import Own as Other"
    load_file(method(tmp_path / "study/mine.py", "mine", imports, "Other"))
    own = [file for file in files_of("mine", "prose") if not file.startswith(f"{PACKAGE}/")]
    assert sorted(own) == ["beside.py", "later.py", "mine.py", "mylab/methods/base.py", "mylab/scale.py"]
    for path in (tmp_path / "study/beside.py", tmp_path / "study/later.py", lab / "methods/base.py", lab / "scale.py"):
        assert changes("mine", path), path
    assert not changes("mine", tmp_path / "study/unused.py")
    forget("from_mylab")


TASK = """
import adapterlab
from adapterlab.tasks import {imported}
from adapterlab.tasks.text import WindowTask
from torch import nn

class Own(WindowTask, nn.Module):
    name = "own"
    def texts(self, part):
        return {expression}
    def fingerprint(self):
        return "own"
"""
OTHER_METHOD, OTHER_TASK = "adapterlab/adapters/orthogonal/oft.py", "adapterlab/tasks/steer.py"


@pytest.mark.parametrize(
    ("imported", "expression", "counted"),
    [
        ("task", 'task("facts").texts(part)', {OTHER_TASK}),
        ("base", 'adapterlab.adapter("oft")', {OTHER_METHOD}),
        ("base", "base.Part", set()),
    ],
)
def test_a_users_task_that_looks_up_others_by_name_counts_them_all(tmp_path, imported, expression, counted):
    (tmp_path / "own.py").write_text(TASK.format(imported=imported, expression=expression))
    load_task_file(tmp_path / "own.py")
    found = files_of("lora", "own")
    assert "own.py" in found
    assert found & {OTHER_METHOD, OTHER_TASK} == counted
    assert not any(file.startswith("torch/") for file in found)


def test_a_users_file_that_acts_when_it_is_loaded_counts_for_every_trial(tmp_path):
    path = method(tmp_path / "mine.py", "mine", FROM_LORA)
    before = version_now("ia3")
    path.write_text(f"{path.read_text()}\nLoRA.extra = 2\n")
    load_file(path)
    assert version_now("ia3") != before
    assert changes("ia3", path)


def test_a_method_without_a_file_is_refused(monkeypatch):
    scope = vars(types.ModuleType("typed_in"))
    monkeypatch.setitem(sys.modules, "typed_in", types.ModuleType("typed_in"))
    exec(METHOD.format(name="typed", imports=FROM_LORA, base="LoRA"), scope)
    try:
        with pytest.raises(AdapterlabError, match="module typed_in has no source file"):
            version("typed", "prose")
        assert version("lora", "prose") == version_now("lora")
    finally:
        del Adapter.registry["typed"]
