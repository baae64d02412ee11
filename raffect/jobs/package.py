"""What a job ships to its cluster: raffect's code and the user's, never data or stores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import raffect
from raffect.errors import SettingsError
from raffect.store.layout import GROUPS, MANIFEST

PACKAGES = ("raffect", "tune_spaces")
PROJECT = "pyproject.toml"
PINS = "constraints.txt"
"""What `doctor` compares a cluster's nodes with."""
# What a job reads comes from the store; what lies beside the code in these forms is data.
DATA_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".mp4", ".avi", ".mkv", ".mov", ".webm"}
    | {".npy", ".npz", ".parquet", ".pt", ".pth", ".ckpt", ".safetensors"}
    | {".gz", ".tar", ".zip"}
)
_MOST_NAMED = 5


@dataclass(frozen=True)
class Parcel:
    """Files to ship.

    Attributes:
        files: Where each lies, by its path in the job's working folder.
    """

    files: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.files.values())

    def check(self, limit: int) -> None:
        """Refuse a parcel that the cluster would refuse, before anything is sent.

        Args:
            limit: Bytes that the cluster takes.

        Raises:
            SettingsError: It is larger; the largest files and folders are named.
        """
        if self.size <= limit:
            return
        raise SettingsError(
            f"The code to ship takes {_mb(self.size)}, most of it in\n{self._largest()}",
            f"at most {_mb(limit)}: Ray's limit for a job's working folder",
            "Move what is not code away, or name it in .gitignore.",
        )

    def _largest(self) -> str:
        sizes: Counter[str] = Counter()
        for name, path in self.files.items():
            top = "/".join(Path(name).parts[:2])
            sizes[top] += path.stat().st_size
        return "\n".join(f"  {_mb(n):>10}  {top}" for top, n in sizes.most_common(_MOST_NAMED))

    def write(self, folder: Path) -> None:
        """Lay the files out in an empty folder."""
        for name, path in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def pack(here: Path, named: Sequence[str] = ()) -> Parcel:
    """The code that a command given in a folder would use.

    raffect and its spaces come from where they were imported: the checkout, or the installed
    version. In a checkout of raffect everything in it goes that git does not ignore; elsewhere
    only the files and folders that the command names.

    Args:
        here: The current folder.
        named: Files, folders or modules below it that the command names.

    Raises:
        SettingsError: A file that the command names is not below the current folder.
    """
    source = Path(raffect.__file__).parent.parent
    files: dict[str, Path] = {}
    if (source / PROJECT).is_file() and (source / PINS).is_file():
        files[PINS] = source / PINS
    for package in PACKAGES:
        files.update(_below(source / package, source))
    if (here / PROJECT).is_file() and (here / "raffect").is_dir():
        files.update(_checkout(here))
    for name in named:
        files.update(_below(_inside(here, name), here.resolve()))
    return Parcel(dict(sorted(files.items())))


def named_code(here: Path, references: Sequence[str | Path | None]) -> list[str]:
    """Files, folders and modules that these options mean, as far as they are the user's own.

    Args:
        here: The current folder.
        references: File paths, or modules with dots.
    """
    found = []
    for reference in references:
        if reference is None:
            continue
        text = str(reference)
        if (here / text).is_file():
            found.append(text)
            continue
        top = text.split(".")[0]
        if top not in PACKAGES:
            found += [name for name in (top, f"{top}.py") if (here / name).exists()]
    return found


def _inside(here: Path, name: str) -> Path:
    path = (here / name).resolve()
    if not path.is_relative_to(here.resolve()):
        raise SettingsError(
            f"{name} is not below the current folder, and would be missing in the job.",
            "files below the folder in which the command is given",
            "Copy it here, or change to its folder.",
        )
    return path


def _checkout(root: Path) -> dict[str, Path]:
    """What git would commit; without git everything."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return _below(root, root)
    stores = set(_stores(root))
    found = {}
    for name in listed.decode().split("\0"):
        path = root / name
        if name and path.is_file() and _is_code(Path(name)) and not stores & set(path.parents):
            found[name] = path
    return found


def _stores(root: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(root):
        names[:] = [name for name in names if not _is_hidden(name)]
        if _is_store(Path(folder)):
            yield Path(folder)
            names.clear()


def _below(top: Path, root: Path) -> dict[str, Path]:
    """Code below a folder (or one file), by its path from the root."""
    if top.is_file():
        return {top.relative_to(root).as_posix(): top}
    found = {}
    for folder, names, files in os.walk(top):
        if _is_store(Path(folder)):
            names.clear()
            continue
        names[:] = sorted(name for name in names if not _is_hidden(name))
        for path in (Path(folder) / name for name in files):
            relative = path.relative_to(root)
            if _is_code(relative):
                found[relative.as_posix()] = path
    return found


def _is_store(folder: Path) -> bool:
    """Whether a folder holds what stages have made."""
    for kind in GROUPS:
        if (folder / kind / MANIFEST).is_file():
            return True
        if any((folder / kind).glob(f"*/{MANIFEST}")):
            return True
    return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "venv", "node_modules", "build")


def _is_code(path: Path) -> bool:
    if any(_is_hidden(part) for part in path.parts):
        return False
    return path.suffix.lower() not in DATA_SUFFIXES


def _mb(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
