from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import raffect
from raffect.errors import SettingsError
from raffect.jobs.package import PACKAGES, PINS, Package, named_code, pack

SOURCE = Path(raffect.__file__).parent.parent


def write(root: Path, *names: str, size: int = 1) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of raffect, with what one has lying about in it."""
    write(tmp_path, "pyproject.toml", "raffect/__init__.py", "my_spaces/mine.py", "notes.txt")
    write(tmp_path, "crops/video/00001.jpg", "features.npy", "clip.safetensors", ".env")
    write(tmp_path, ".venv/lib/torch.py", "ignored/large.bin", "raffect/__pycache__/x.pyc")
    write(tmp_path, "results/dataset/manifest.json", "results/dataset/labels/va.parquet")
    write(tmp_path, "results/sweeps/va/study/00001.json", "results/sweeps/va/manifest.json")
    (tmp_path / ".gitignore").write_text("ignored/\n.venv/\n__pycache__/\n")
    return tmp_path


def own(package: Package) -> set[str]:
    """What comes on top of raffect itself."""
    return {name for name in package.files if not name.startswith(PACKAGES)} - {PINS}


@pytest.mark.parametrize("with_git", [True, False])
def test_a_checkout_goes_without_data_stores_and_what_git_ignores(checkout: Path, with_git: bool):
    if with_git:
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    extra = set() if with_git else {"ignored/large.bin"}
    assert own(pack(checkout)) == {"pyproject.toml", "my_spaces/mine.py", "notes.txt", *extra}


def test_elsewhere_only_the_installed_code_goes(tmp_path: Path):
    write(tmp_path, "thesis.tex", "my_space.py")
    package = pack(tmp_path)
    assert own(package) == set()
    assert {"raffect/__main__.py", "raffect/report/page.html", "tune_spaces/va.py"} <= set(
        package.files
    )
    assert not [name for name in package.files if "__pycache__" in name]


def test_code_that_the_command_names_goes_along(tmp_path: Path):
    write(tmp_path, "my/space.py", "settings.yaml", "spaces/va.py", "spaces/deep/x.py", "alone.py")
    named = named_code(
        tmp_path, ["my/space.py", "settings.yaml", "spaces.va", "alone", "tune_spaces.va", None]
    )
    assert named == ["my/space.py", "settings.yaml", "spaces", "alone.py"]
    assert own(pack(tmp_path, named)) == {
        "my/space.py",
        "settings.yaml",
        "spaces/va.py",
        "spaces/deep/x.py",
        "alone.py",
    }


def test_what_a_space_imports_goes_along(tmp_path: Path):
    write(tmp_path, "my/unused.py", "my/far.py", "lib/__init__.py", "broken.py", "top.py")
    (tmp_path / "my/space.py").write_text("import near, numpy, raffect, missing\nfrom . import x")
    (tmp_path / "my/near.py").write_text("import far\n")
    (tmp_path / "my/x.py").write_text("")
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces/va.py").write_text("import top\nfrom lib import y\nfrom .au import z")
    (tmp_path / "lib/y.py").write_text("")
    (tmp_path / "spaces/au.py").write_text("")
    (tmp_path / "broken.py").write_text("def")
    assert named_code(tmp_path, ["my/space.py", "my/space.yaml", "broken.py"]) == [
        "my/space.py",
        "my/far.py",
        "my/near.py",
        "my/x.py",
        "broken.py",
    ]
    assert named_code(tmp_path, ["spaces.va"]) == [
        "spaces",
        "lib/__init__.py",
        "lib/y.py",
        "spaces/au.py",
        "top.py",
    ]


def test_a_file_from_elsewhere_is_refused(tmp_path: Path):
    write(tmp_path, "outside.py", "here/x.py")
    with pytest.raises(SettingsError, match=r"\.\./outside\.py is not below the current folder"):
        pack(tmp_path / "here", ["../outside.py"])


def test_what_is_written_is_what_was_packed(checkout: Path, tmp_path_factory):
    package = pack(checkout)
    target = tmp_path_factory.mktemp("package")
    package.write(target)
    written = {p.relative_to(target).as_posix(): p for p in target.rglob("*") if p.is_file()}
    assert set(written) == set(package.files)
    assert sum(path.stat().st_size for path in written.values()) == package.size


def test_a_package_that_the_cluster_would_refuse_names_what_is_large(tmp_path: Path):
    write(tmp_path, "pyproject.toml", "raffect/__init__.py")
    write(tmp_path, "logs/a.txt", "logs/b.txt", size=3 * 2**20)
    package = pack(tmp_path)
    package.check(package.size)
    with pytest.raises(SettingsError, match=r"3\.0 MiB  logs/a\.txt(.|\n)*at most 5\.0 MiB"):
        package.check(5 * 2**20)
