from __future__ import annotations

import signal
import sys
from pathlib import Path

import optuna
import pytest

from raffect.affwild2.tasks import Task
from raffect.config import recipe
from raffect.errors import SettingsError
from raffect.settings import override
from raffect.sweep.points import check_space, derive_recipe
from raffect.sweep.space import Space, load_space
from tests.sweep import tiny

GOOD = """
TRIALS = 7

def space(trial):
    return {"optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 1e-2, log=True)}
"""


def write(folder: Path, text: str, name: str = "own.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def spaced(function) -> Space:
    return Space("test", function, "code", 1)


def test_a_space_is_loaded_by_module_and_by_file(tmp_path: Path) -> None:
    assert load_space("tune_spaces.va").trials == 60
    own = load_space(write(tmp_path, GOOD))
    assert own.trials == 7
    trial = optuna.trial.FixedTrial({"optimiser.lr": 2e-3})
    assert own.configure(trial, recipe(Task.VA)).optimiser.lr == 2e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no function `space`"),
        ("def space(trial):\n  return {", "fails: SyntaxError"),
        (
            "import nothing_like_it",
            "ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        ("1 / 0", "fails: ZeroDivisionError"),
        ("import sys\nsys.exit('no licence')", "fails: SystemExit: no licence"),
        (f"{GOOD}\nTRIALS = 0", "TRIALS of .* is 0"),
    ],
)
def test_a_space_that_is_none_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_space(write(tmp_path, text))


@pytest.mark.parametrize(
    "head", ["\ufeff", "# coding: latin-1\n# caf\xe9\n", "# -*- coding: utf-8 -*-\n# café\n"]
)
def test_a_space_is_read_as_python_reads_it(tmp_path: Path, head: str) -> None:
    path = tmp_path / "own.py"
    path.write_bytes((head + GOOD).encode("latin-1" if "latin" in head else "utf-8"))
    assert load_space(str(path)).code == load_space(write(tmp_path, GOOD, "plain.py")).code


def test_latin_1_that_does_not_say_so_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_bytes(f"x = 'caf\xe9'\n{GOOD}".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"own.py fails: SyntaxError: .*utf-8"):
        load_space(str(path))


LR, DEPTH = '"optimiser.lr"', '"model.tcn.depth"'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"return {{{LR}: t.suggest_float({LR}, 1e-4, float('inf'))}}", "no finite bounds"),
        (f"return {{{LR}: t.suggest_float({LR}, float('nan'), 1)}}", "no finite bounds"),
        (f"return {{{LR}: float('nan')}}", "finite number"),
        (f"return {{{LR}: True}}", "true and false"),
        (f"return {{{DEPTH}: t.suggest_float({DEPTH}, 0, 4)}}", "valid integer"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return {1: 2}", "AttributeError"),
        (f"return {{{LR}: 1 / (t.number + 1 - t.number - 1)}}", "ZeroDivisionError"),
    ],
)
def test_a_space_that_can_make_nothing_is_told_before_a_trial(
    tmp_path: Path, body: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a command, where Ctrl-C is told from the space's own KeyboardInterrupt.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    space = load_space(write(tmp_path, f"def space(t):\n    {body}"))

    def begin() -> None:
        derive_recipe(space, tiny.base())
        check_space(space, tiny.base())

    with pytest.raises(SettingsError, match=says):
        begin()


def test_a_space_some_of_whose_points_fail_is_no_error(tmp_path: Path) -> None:
    body = f"d = t.suggest_int({DEPTH}, 0, 4)\n    1 / d\n    return {{{DEPTH}: d}}"
    check_space(load_space(write(tmp_path, f"def space(t):\n    {body}")), tiny.base())


@pytest.mark.parametrize("name", ["tune_spaces.nothing", "nothing.va", "no/such.py", "such.py"])
def test_a_space_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"There is no (module|file) {name}"):
        load_space(name)


def test_code_counts_and_comments_do_not(tmp_path: Path) -> None:
    def code(text: str) -> str:
        return load_space(write(tmp_path, text)).code

    assert code(GOOD) == code(f'"""Words."""\n# more\n{GOOD}'.replace("= 7", "= 9"))
    assert code(GOOD) != code(GOOD.replace("1e-4", "1e-5"))
    assert code(GOOD) != code(f"import tune_spaces.common\n{GOOD}")
    joint, own = load_space("tune_spaces.au_joint").code, load_space("tune_spaces.au").code
    assert joint != own


def test_code_of_spaces_that_are_imported_counts(tmp_path: Path, monkeypatch) -> None:
    before = load_space("tune_spaces.au_joint").code
    from tune_spaces import common

    changed = Path(common.__file__).read_text().replace("3e-3", "4e-3")
    monkeypatch.setattr(common, "__file__", write(tmp_path, changed, "common.py"))
    assert load_space("tune_spaces.au_joint").code != before


STOCK = {
    "au": "1de6b173524d49c75e39d8cb172dade0b606919a78288b8067ba95df1b1f4762",
    "au_joint": "017e84ae3cb32dc3c4acb56b48278c7c7ece4d6d2bf3a3630f7ce1fb81f2379f",
    "expr": "73dc4e3bec54d0dbef8f1ff48b8cde23a6d7dc70b9998a9fd78cff348f041e94",
    "expr_joint": "b4c307a10f15a351f98dcc20e3b5b8f5c8b4acbfe6795ae9978ebae0344b8288",
    "va": "6cfd173124d673ee6ccc7fa6c40b8d5c84277c1c71535d0e17f3ce33f2c15286",
}


@pytest.mark.parametrize("name", STOCK)
def test_sweeps_of_0_4_know_their_spaces_again(name: str) -> None:
    """As long as the spaces do the same; a space that is changed changes its line."""
    space = load_space(f"tune_spaces.{name}")
    assert (space.code, space.helpers) == (STOCK[name], {})


HELPED = """
import helper
from helper import LOW
from . import near
from .near import HIGH
import lib.deep

def space(trial):
    from late import NAME
    assert helper.LOW == LOW and near.HIGH == HIGH
    return {NAME: trial.suggest_float(NAME, LOW, HIGH, log=True)}
"""
HELPERS = {
    "helper.py": "from hidden import LOW",
    "hidden.py": "LOW = 1e-4",
    "near.py": "from . import hidden\nHIGH = 1e-2",
    "late.py": "NAME = 'optimiser.lr'",
    "lib/__init__.py": "",
    "lib/deep.py": "import numpy, raffect.config\nDEEP = 1",
    "other.py": "1",
}


def helped(folder: Path, **changed: str) -> Space:
    """A space with helpers beside it, some of them changed."""
    for name, text in {**HELPERS, **{f"{key}.py": text for key, text in changed.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return load_space(write(folder, HELPED))


def rate_of(space: Space) -> float:
    trial = optuna.trial.FixedTrial({"optimiser.lr": 2e-3})
    return space.configure(trial, recipe(Task.VA)).optimiser.lr


def test_a_file_imports_what_lies_beside_it_and_all_of_that_counts(tmp_path: Path) -> None:
    space = helped(tmp_path)
    assert rate_of(space) == 2e-3
    assert set(space.helpers) == {"helper", "hidden", "near", "late", "lib.deep"}
    for name in ("helper", "hidden", "near", "late"):
        text = HELPERS[f"{name}.py"]
        again = helped(tmp_path, **{name: f"# words\n{text}\n"})
        assert (again.code, again.helpers) == (space.code, space.helpers)
        again = helped(tmp_path, **{name: f"{text}\nMORE = 1\n"})
        assert again.code == space.code
        assert {n for n, of in again.helpers.items() if of != space.helpers[n]} == {name}
        helped(tmp_path)


def test_spaces_in_two_folders_have_a_helper_each_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    """Names are free for all others; a folder that is moved is the same space."""
    path = list(sys.path)
    one, two = tmp_path / "one", tmp_path / "two"
    first, second = helped(one), helped(two, late="NAME = 'optimiser.weight_decay'")
    assert rate_of(first) == 2e-3
    decay = optuna.trial.FixedTrial({"optimiser.weight_decay": 2e-3})
    assert second.configure(decay, recipe(Task.VA)).optimiser.weight_decay == 2e-3
    assert rate_of(first) == 2e-3
    assert sys.path == path
    moved = helped(tmp_path / "three")
    assert (moved.code, moved.helpers) == (first.code, first.helpers)


def test_helpers_of_a_space_that_is_a_module_count(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "own_spaces"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write(package, GOOD.replace("1e-4", "LOW").replace("\nTRIALS", "from .low import LOW\nTRIALS"))
    write(package, "LOW = 1e-4", "low.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(load_space("own_spaces.own").helpers) == {"own_spaces.low"}


def test_a_helper_that_fails_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"own\.py fails: ZeroDivisionError"):
        helped(tmp_path, hidden="1 / 0")
    with pytest.raises(SettingsError, match=r"own\.py fails: SyntaxError"):
        helped(tmp_path, late="def", hidden="LOW = 1")


def test_the_recipe_is_the_base_in_the_spaces_parameters() -> None:
    base = tiny.base(model__tcn__depth=2, optimiser__lr=5e-4)

    def space(trial):
        depth = trial.suggest_int("model.tcn.depth", 0, 4)
        found = {"model.tcn.depth": depth}
        if depth:
            found["model.tcn.kernel"] = trial.suggest_int("model.tcn.kernel", 3, 9, step=2)
        else:
            found["model.width"] = trial.suggest_int("model.width", 1, 2)
        found["optimiser.lr"] = trial.suggest_float("optimiser.lr", 1e-5, 1e-2, log=True)
        heads = trial.suggest_categorical("model.transformer.heads", [2, 4])
        return {**found, "model.transformer.heads": heads}

    first = derive_recipe(spaced(space), base)
    assert first.params == {
        "model.tcn.depth": 2,
        "model.tcn.kernel": 3,
        "optimiser.lr": 5e-4,
        "model.transformer.heads": 2,
    }
    assert "IntDistribution(high=4" in first.describe()["model.tcn.depth"]


def test_all_that_keeps_the_base_out_of_the_space_is_listed_at_once() -> None:
    def space(trial):
        return {
            "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-2, 1e-1),
            "model.tcn.kernel": trial.suggest_int("model.tcn.kernel", 4, 8, step=2),
            "model.transformer.heads": trial.suggest_categorical(
                "model.transformer.heads", [4, 8]
            ),
            "optimiser.clip_norm": trial.suggest_float("optimiser.clip_norm", 0.1, 1.0),
            "model.deep": trial.suggest_int("model.deep", 1, 2),
        }

    with pytest.raises(SettingsError) as caught:
        derive_recipe(spaced(space), tiny.base(model__tcn__kernel=5))
    for key in (
        "optimiser.lr = 0.001",
        "model.tcn.kernel = 5",
        "model.transformer.heads = 2",
        "optimiser.clip_norm = None",
        "model.deep: no setting",
    ):
        assert key in caught.value.got


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (lambda trial: {"optimiser.lr": 0.5}, "optimiser.lr = 0.001 becomes 0.5"),
        (lambda trial: [], "returned list"),
        (lambda trial: {"optimiser.rate": 1}, "optimiser.rate = 1: no setting has this name"),
        (lambda trial: trial.nothing, "fails: AttributeError"),
    ],
)
def test_a_space_that_does_not_keep_the_base_is_refused(space, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        derive_recipe(spaced(space), tiny.base())


def test_values_that_make_no_configuration_are_a_users_mistake() -> None:
    space = spaced(lambda trial: {"optimiser.lr": trial.suggest_float("optimiser.lr", -1, 1)})
    with pytest.raises(SettingsError, match=r"optimiser.lr"):
        space.configure(optuna.trial.FixedTrial({"optimiser.lr": -0.5}), tiny.base())


def test_a_base_can_be_moved_inside() -> None:
    space = load_space("tune_spaces.va")
    derive_recipe(space, override(recipe(Task.VA), {"model.tcn.depth": 0}))
    with pytest.raises(SettingsError, match=r"model\.tcn\.depth = 9"):
        derive_recipe(space, override(recipe(Task.VA), {"model.tcn.depth": 9}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "au"}, r"space test is for the task va; its settings say task = au"),
        ({"optimiser.lr": float("inf")}, r"optimiser\.lr = Infinity: .* finite"),
        ({"optimiser.lr": float("nan")}, r"optimiser\.lr = NaN: "),
    ],
)
def test_a_space_keeps_to_its_task_and_to_finite_values(changes, message) -> None:
    with pytest.raises(SettingsError, match=message):
        derive_recipe(spaced(lambda trial: changes), tiny.base())
