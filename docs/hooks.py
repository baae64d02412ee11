"""What mkdocs writes itself: pages that have their one home elsewhere.

The commands' reference comes from the command line itself, the notebook's page from the notebook,
the pages on clusters and changes from the files of the repository, and `<!-- README: Heading -->`
in a page stands for that chapter of the README.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
_CHAPTER = re.compile(r"<!-- README: (.+?) -->")
_SHIM = "https://unpkg.com/iframe-worker/shim"
# Files of the repository that are pages of the site, under another name.
_PAGES = {
    "cluster/README.md": "clusters.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "docs/notebook.ipynb": "notebook.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    made = {
        "cli.md": "\n".join(commands_page()),
        "notebook.md": "\n".join(notebook_page()),
        "clusters.md": _relinked((ROOT / "cluster/README.md").read_text("utf-8"), "cluster"),
        "changelog.md": _relinked((ROOT / "CHANGELOG.md").read_text("utf-8"), ""),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in chapters of the README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    return _CHAPTER.sub(lambda found: _relinked(chapter(readme, found[1]), ""), markdown)


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """Take the theme's one script from elsewhere from the site itself: it loads nothing."""
    site = Path(config.site_dir)
    for path in site.rglob("*.html"):
        own = "../" * len(path.relative_to(site).parent.parts) + "javascripts/iframe-worker.js"
        path.write_text(path.read_text("utf-8").replace(_SHIM, own), "utf-8")


def chapter(readme: str, heading: str) -> str:
    """A chapter's text, without its heading.

    Raises:
        KeyError: There is no such heading.
    """
    found = re.search(
        rf"^(##+) {re.escape(heading)}\n(.*?)(?=^\1 |^## |\Z)", readme, flags=re.M | re.S
    )
    if found is None:
        raise KeyError(f"README.md has no chapter {heading!r}")
    return found[2].strip()


def _relinked(text: str, folder: str) -> str:
    """The text with links from a folder of the repository as links between pages.

    What is no page loses its link: the site is read without the repository.
    """

    def change(found: re.Match[str]) -> str:
        target, _, anchor = found[3].partition("#")
        path = f"{folder}/{target}".strip("/") if not target.startswith("../") else target[3:]
        page = _PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        return f"[{found[1]}]({page}{'#' + anchor if anchor else ''})" if page else found[1]

    return re.sub(r"\[([^\]]*)\](\()(?!https?:|#|mailto:)([^)\s]+)\)", change, text)


def commands_page() -> Iterator[str]:
    """The reference of the command line, from its own definitions."""
    import typer.main

    from raffect.cli.app import app

    root = typer.main.get_command(app)
    yield "# Commands\n"
    yield "`raffect COMMAND --help` prints the same. Every command takes `--quiet`, `--store` and"
    yield "`--address`, whether it needs them or not. Exit codes: 0 done, 2 a mistake that the"
    yield "message explains, 1 a bug or a failed engine, 130 interrupted by Ctrl-C.\n"
    commands: dict[str, Any] = vars(root)["commands"]
    panels = dict.fromkeys(str(one.rich_help_panel) for one in commands.values())
    for panel in panels:
        yield f"## {panel}\n"
        for name, command in commands.items():
            if str(command.rich_help_panel) == panel:
                yield from _command(f"raffect {name}", command)


def _command(name: str, command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    usage = " ".join(part for part in command.collect_usage_pieces(context) if part)
    yield f"### {name}\n\n{(command.help or '').strip()}\n\n```text\n{name} {usage}\n```\n"
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    shown = [one for one in shown if "--help" not in one.opts]
    if shown:
        yield "| option | takes | default | |\n| --- | --- | --- | --- |"
        yield from (_option(one) for one in shown)
        yield ""
    for verb, inner in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {verb}", inner)


def _option(option: Any) -> str:
    is_option = option.param_type_name == "option"
    names = ", ".join(f"`{one}`" for one in [*option.opts, *option.secondary_opts])
    takes = "" if getattr(option, "is_flag", False) else option.metavar or ""
    default = option.show_default if isinstance(option.show_default, str) else option.default
    if option.required:
        default = "required"
    elif default is None or default is False or callable(default):
        default = ""
    cells = [names if is_option else f"`{takes}`", takes if is_option else "", str(default)]
    words = [cell.replace("|", "\\|") for cell in [*cells, option.help or ""]]
    return f"| {' | '.join(words)} |"


def notebook_page() -> Iterator[str]:
    """The notebook as a page; docs/notebook.ipynb is the file to open."""
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        yield ""
