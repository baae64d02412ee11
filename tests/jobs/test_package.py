from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import raffect
from raffect.errors import RaffectError, SettingsError
from raffect.jobs.package import PACKAGES, Package, named_code, pack
from raffect.requirements import CONSTRAINTS

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
    return {name for name in package.files if not name.startswith(PACKAGES)} - {CONSTRAINTS}


@pytest.mark.parametrize("with_git", [True, False])
def test_a_checkout_goes_without_data_stores_and_what_git_ignores(checkout: Path, with_git: bool):
    if with_git:
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    extra = set() if with_git else {"ignored/large.bin"}
    assert own(pack(checkout)) == {"pyproject.toml", "my_spaces/mine.py", "notes.txt", *extra}


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may not read what is closed to others; root may read all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_is_no_file_or_can_not_be_read_stays_and_is_said(tmp_path: Path):
    """Each was a traceback, a hang, or missing without a word."""
    (tmp_path / "own" / "closed").mkdir(parents=True)
    own_code = tmp_path / "own"
    write(own_code, "good.py", "shut.py", "crops.npz", "closed/x.py", "st/models/m/manifest.json")
    os.mkfifo(own_code / "pipe.py")
    (own_code / "gone.py").symlink_to("nowhere.py")
    (own_code / "loop").symlink_to(".")
    (own_code / "fine.py").symlink_to("good.py")
    Path(os.fsdecode(bytes(own_code) + b"/caf\xe9.py")).write_text("")
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path is short.
        folder = os.open(own_code, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/s.py")
        os.close(folder)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("test_", "popen-", "pytest-")):
            parent.chmod(0o755)
    for name in ("shut.py", "closed"):
        (own_code / name).chmod(0)
    with nobody():
        package = pack(tmp_path, ["own"])
    (own_code / "closed").chmod(0o755)
    assert own(package) == {"own/good.py", "own/fine.py"}
    assert package.left_out == {
        "own/shut.py": "which can't be read (Permission denied)",
        "own/closed": "which can't be read (Permission denied)",
        "own/crops.npz": "data by its name",
        "own/st": "a store",
        "own/pipe.py": "no file (a pipe, a socket or a device)",
        "own/s.py": "no file (a pipe, a socket or a device)",
        "own/gone.py": "a link to nothing",
        "own/loop": "a link to a folder",
        "own/caf\udce9.py": "whose name is no UTF-8",
    }
    lines = package.describe_left_out()
    assert "Not shipped: own/pipe.py and 1 more, no file (a pipe, a socket or a device)." in lines
    "\n".join(lines).encode()
    package.write(tmp_path / "out")
    assert (tmp_path / "out" / "own" / "fine.py").read_bytes() == b"x"


def test_git_lists_names_of_all_bytes(checkout: Path):
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    Path(os.fsdecode(bytes(checkout) + b"/caf\xe9.py")).write_text("")
    package = pack(checkout)
    assert package.left_out["caf\udce9.py"] == "whose name is no UTF-8"
    assert "ignored/large.bin" not in {*package.files, *package.left_out}


def test_a_file_that_goes_while_it_is_shipped_is_named(tmp_path: Path):
    write(tmp_path, "mine.py")
    package = pack(tmp_path, ["mine.py"])
    (tmp_path / "mine.py").unlink()
    with pytest.raises(RaffectError, match=r"mine\.py can't be copied"):
        package.write(tmp_path / "out")


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
