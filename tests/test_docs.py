"""The guides name files, verbs and tests that exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from raffect.cli.app import app
from raffect.cli.settings import list_settings

ROOT = Path(__file__).parent.parent
GUIDES = ["README.md", "CONTRIBUTING.md", "cluster/README.md"]
PLACES = [ROOT, ROOT / "raffect"]


def text(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_to_files(guide: str):
    links = re.findall(r"\]\(([^)#:]+)\)", text(guide))
    folder = (ROOT / guide).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize("guide", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_named_files_exist(guide: str):
    named = re.findall(r"`([\w./-]+(?:\.py|\.toml|\.md|\.cff|/))`", text(guide))
    names = [name for name in named if "/" in name]
    assert len(names) > 5
    assert [n for n in names if not any((place / n).exists() for place in PLACES)] == []


def test_verbs_of_make_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"`make ([\w-]+)", text("CONTRIBUTING.md"))
    assert named
    assert set(named) <= set(targets)


def test_one_version_everywhere():
    import raffect

    version = raffect.__version__
    assert f"version: {version}\n" in text("CITATION.cff")
    assert f"## [{version}]" in text("CHANGELOG.md")


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def typed(guide: str) -> list[str]:
    """The raffect commands in the blocks of a guide, as a shell would have them."""
    blocks = re.findall(r"```bash\n(.*?)```", text(guide), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("raffect ")]


def parse(words: list[str]) -> None:
    """Parse a command as the command line does, without running it; and what `submit` submits."""
    if words[0] == "submit":
        words, inner = words[: words.index("--")], words[words.index("--") + 1 :]
        parse(inner)
        words += ["--", "doctor"]
    command, rest = COMMANDS[words[0]], words[1:]
    if rest and rest[0] in (verbs := getattr(command, "commands", {})):
        command, rest = verbs[rest[0]], rest[1:]
    params = command.make_context("raffect", rest).params
    check_settings(words[0], params.get("changes") or [])


def check_settings(command: str, changes: list[str]) -> None:
    stage = command if command in ("finetune", "extract") else "train"
    known = {one.key for one in list_settings(stage)}
    if command == "extract":
        known |= {one.key for one in list_settings("finetune") if one.key.startswith("encoder.")}
    assert {change.partition("=")[0] for change in changes} <= known


@pytest.mark.parametrize("guide", ["README.md", "cluster/README.md", *PAGES])
def test_every_command_in_a_guide_is_one_that_the_command_line_takes(guide: str):
    for line in typed(guide):
        parse(shlex.split(line, comments=True)[1:])


def test_commands_are_found_and_a_wrong_one_is_not_taken():
    assert sum(len(typed(page)) for page in PAGES) > 50
    for wrong in ("tune va --trails 3", "submit -- tune va --trails 3", "jobs follow"):
        with pytest.raises(typer.TyperException):
            parse(wrong.split())
    with pytest.raises(AssertionError):
        parse(shlex.split("train va --set model.tcn.dpth=3"))


@pytest.mark.parametrize("guide", ["README.md", "cluster/README.md", *PAGES])
def test_options_in_the_text_exist(guide: str):
    """Of `raffect tune ... --trials 3` between backticks, which may be cut short."""
    outside = re.sub(r"```.*?```", "", text(guide), flags=re.DOTALL)
    for found in re.findall(r"`raffect ([^`]+)`", outside):
        words = found.split()
        if words[0] == "submit" and "--" in words:
            words = words[words.index("--") + 1 :] or ["submit"]
        if not words[0][0].islower():
            # `raffect COMMAND --help`, `raffect --version`.
            continue
        command = COMMANDS[words[0]]
        known = {name for one in command.params for name in [*one.opts, *one.secondary_opts]}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, found


def test_the_messages_that_are_explained_are_in_the_code():
    said = {
        part.value
        for path in (ROOT / "raffect").rglob("*.py")
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    told = re.findall(r'^### "(.+)"$', text("docs/troubleshooting.md"), flags=re.MULTILINE)
    pieces = [piece.strip() for one in told for piece in one.split("…")]
    assert len(told) > 20
    assert [p for p in pieces if len(p) > 2 and not any(p in one for one in said)] == []


@pytest.mark.slow
def test_the_site_is_built_without_network_and_loads_nothing(tmp_path: Path):
    """With unshare it has no network at all; --strict takes links that lead nowhere as errors."""
    offline = ["unshare", "--net", "--map-root-user"]
    offline = offline if subprocess.run([*offline, "true"], check=False).returncode == 0 else []
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run([*offline, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text() for path in tmp_path.rglob("*.html")}
    loaded = re.compile(
        r'<(?:script|img|link[^>]+stylesheet)[^>]+(?:src|href)="(?:https?:)?//[^"]+'
    )
    assert {name: found for name, page in pages.items() if (found := loaded.findall(page))} == {}
    assert "--gpus-per-trial" in pages["cli.html"]
    assert "to_dataframe" in pages["api.html"]
    assert "load_model" in pages["notebook.html"]
    assert "<!-- README" not in "".join(pages.values())
