"""What a job ships to its cluster: raffect's code and the user's, never data or stores.

Ray packs a working folder by .gitignore and glob patterns. It can't tell a store from code, ships
all of a folder where one file was meant, and does not say what makes it too large: so the files
are chosen here, and Ray gets a folder that holds these alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import raffect
from raffect.code import locate
from raffect.errors import RaffectError, SettingsError
from raffect.requirements import CONSTRAINTS, PROJECT, find_files
from raffect.store.layout import DATASET, MANIFEST
from raffect.sweep.space import find_helpers, is_file
from raffect.text import printable

PACKAGES = ("raffect", "tune_spaces")
# A job reads data from the store: files of these kinds beside the code are not code.
DATA_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".mp4", ".avi", ".mkv", ".mov", ".webm"}
    | {".npy", ".npz", ".parquet", ".pt", ".pth", ".ckpt", ".safetensors"}
    | {".gz", ".tar", ".zip"}
)


@dataclass(frozen=True)
class Package:
    """Files to ship: where each is, by its path in the job's working folder.

    Attributes:
        left_out: What lies among them and stays here: why, by its path.
    """

    files: dict[str, Path]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.files.values())

    def check(self, limit: int) -> None:
        """Refuse a package of more bytes than the cluster takes, before anything is sent.

        Raises:
            SettingsError: It is larger; the largest files and folders are named.
        """
        if self.size <= limit:
            return
        sizes: Counter[str] = Counter()
        for name, path in self.files.items():
            sizes["/".join(Path(name).parts[:2])] += path.stat().st_size
        largest = [f"  {_mb(n):>10}  {top}" for top, n in sizes.most_common(5)]
        raise SettingsError(
            "\n".join([f"The code to ship takes {_mb(self.size)}, most of it in", *largest]),
            f"at most {_mb(limit)}: Ray's limit for a job's working folder",
            "Move what is not code away, or name it in .gitignore.",
        )

    def describe_left_out(self) -> list[str]:
        """For each reason a line, with how many there are and the first of them."""
        first: dict[str, str] = {}
        for name, why in sorted(self.left_out.items()):
            first.setdefault(why, printable(name))
        counts = Counter(self.left_out.values())
        return [
            f"Not shipped: {first[why]}" + (f" and {n - 1} more" if n > 1 else "") + f", {why}."
            for why, n in counts.most_common()
        ]

    def write(self, folder: Path) -> None:
        """Copy the files into an empty folder.

        Raises:
            RaffectError: One is gone by now, or there is no room for them.
        """
        for name, path in self.files.items():
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            except OSError as error:
                raise RaffectError(
                    f"{path} can't be copied to {folder}, to be shipped: {error.strerror}.",
                    "files that stay while they are sent, and room for them in TMPDIR",
                    "Run the command again.",
                ) from None


def pack(here: Path, named: Sequence[str] = ()) -> Package:
    """The code that a command given in a folder would use.

    raffect and its spaces come from where they were imported: a checkout, or the installed
    version. If the folder is a checkout of raffect, everything in it that git does not ignore
    is added; elsewhere only the files and folders that the command names.

    Raises:
        SettingsError: A file that the command names is not below the current folder.
    """
    source = Path(raffect.__file__).parent.parent
    files: dict[str, Path] = {}
    out: dict[str, str] = {}
    # What `doctor` compares a cluster's nodes with.
    if with_files := find_files():
        files[CONSTRAINTS] = with_files / CONSTRAINTS
    for package in PACKAGES:
        files |= _code(source / package, source, out)
    if (here / PROJECT).is_file() and (here / "raffect").is_dir():
        files |= _code(here, here, out, _not_ignored(here))
    root = here.resolve()
    for name in named:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise SettingsError(
                f"{name} is not below the current folder, and would be missing in the job.",
                "files below the folder in which the command is given",
                "Copy it here, or change to its folder.",
            )
        files |= _code(path, root, out)
    return Package(dict(sorted(files.items())), out)


def named_code(here: Path, references: Sequence[str | Path | None]) -> list[str]:
    """The user's own code below a folder that options (file paths, dotted modules) refer to.

    Modules that a search space among it imports go along.
    """
    found = []
    for text in (str(reference) for reference in references if reference is not None):
        top = text.split(".")[0]
        if (here / text).is_file():
            found += [text, *_helpers(here, text)]
        elif top not in PACKAGES:
            found += [name for name in (top, f"{top}.py") if (here / name).exists()]
            found += _helpers(here, text)
    return list(dict.fromkeys(found))


def _helpers(here: Path, space: str) -> list[str]:
    """Files below a folder that a space imports; none of what is no Python, or wrong."""
    source = here / space if is_file(space) else locate(space, [str(here)])
    if source is None or source.suffix != ".py":
        return []
    try:
        own = find_helpers(space, source, here).values()
    except (SyntaxError, ValueError, OSError):
        # The command says what is wrong with it.
        return []
    root = here.resolve()
    paths = [path.resolve() for path, _ in own]
    return [str(path.relative_to(root)) for path in paths if path.is_relative_to(root)]


def _not_ignored(root: Path) -> set[str] | None:
    """The files that git knows or would add; None without git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return set(os.fsdecode(listed).split("\0"))


def _code(
    top: Path, root: Path, out: dict[str, str], wanted: set[str] | None = None
) -> dict[str, Path]:
    """The code below a folder, or one file, by its path from the root; `out` takes the rest.

    Of a folder, nothing but what is `wanted`, where that is known.
    """
    if top.is_file():
        return {top.relative_to(root).as_posix(): top}
    found = {}

    def unread(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        out[name] = f"which can't be read ({error.strerror})"

    for folder, folders, files in os.walk(top, onerror=unread):
        if _is_store(Path(folder)):
            out[Path(folder).relative_to(root).as_posix()] = "a store"
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        linked = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in files + linked if not _is_hidden(name)):
            name = path.relative_to(root).as_posix()
            if wanted is not None and name not in wanted:
                continue
            if why := _why_not(path):
                out[name] = why
            else:
                found[name] = path
    return found


def _why_not(path: Path) -> str | None:
    """Why a file is not shipped; None if it is."""
    if path.suffix.lower() in DATA_SUFFIXES:
        return "data by its name"
    if not path.exists():
        return "a link to nothing"
    if path.is_dir():
        return "a link to a folder"
    if not path.is_file():
        return "no file (a pipe, a socket or a device)"
    try:
        str(path).encode()
        path.open("rb").close()
    except UnicodeError:
        return "whose name is no UTF-8"
    except OSError as error:
        return f"which can't be read ({error.strerror})"
    return None


def _is_store(folder: Path) -> bool:
    """Whether stages have written to a folder."""
    marks = (DATASET, "encoders", "features", "models", "sweeps")
    return any(
        (folder / kind / MANIFEST).is_file() or any((folder / kind).glob(f"*/{MANIFEST}"))
        for kind in marks
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "venv", "node_modules", "build")


def _mb(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
