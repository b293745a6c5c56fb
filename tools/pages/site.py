"""Hook of mkdocs: adds files from outside `docs/` to the site, and corrects the links to them.

The pages of `docs/` are also read in the repository, so their links are relative to it. In the site, published results are
copied whole, notebooks and the guides at the repository's root become pages, and other files that a page links to are
copied as text. A link to a folder becomes plain text.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
GUIDES = {
    "README.md": "repository.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting-problems.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages at the root of the repository, by their names in the site."""
PUBLISHED = "published.md"
"""Page about the published studies."""
SHOWN = {".html", ".json", ".png", ".svg", ".parquet", ".ipynb"}
"""Endings of files that are copied under their own name; others get `.txt`, so that a browser shows them."""
PIECES = re.compile(
    r"(?P<block>^ *```.*?^ *```)"
    r"|(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)"
    r"|(?P<code>`[^`\n]+`)",
    re.MULTILINE | re.DOTALL,
)
"""Blocks of code, links to files, and code in a line; only the links are changed."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the published results after the page about them.

    Args:
        config: Settings of the site; changed in place.

    Returns:
        The settings.
    """
    for section in config.nav or []:
        for items in section.values() if isinstance(section, dict) else ():
            if PUBLISHED in items:
                after = items.index(PUBLISHED) + 1
                items[after:after] = [
                    path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("results/*/README.md"))
                ]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the published results, the notebooks and the guides.

    Args:
        files: Files of the site; extended in place.
        config: Settings of the site.

    Returns:
        The files.
    """
    for path in sorted((ROOT / "results").rglob("*")):
        if path.is_file():
            _add(files, config, path.relative_to(ROOT).as_posix(), path)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        name = f"examples/{path.stem}.md"
        files.append(File.generated(config, name, content=notebook_page(json.loads(path.read_text("utf-8")))))
        _add(files, config, f"examples/{path.name}", path)
    for path, name in GUIDES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text("utf-8")))
    for page in list(files.documentation_pages()):
        for target in _linked(page):
            name = site_name(target)
            if (ROOT / target).is_file() and files.get_file_from_path(name) is None:
                _add(files, config, name, ROOT / target)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with its links as the site needs them.

    Args:
        markdown: Text of the page.
        page: The page.
        config: Settings of the site.
        files: Files of the site.
    """
    here = repository_path(page.file.src_uri)

    def corrected(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or ":" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if (ROOT / path).is_dir():
            if not (ROOT / path / "README.md").is_file():
                return found["text"].strip("[]")
            path = f"{path}/README.md"
        name = posixpath.relpath(site_name(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"{found['text']}({name}{found['anchor'] or ''})"

    return PIECES.sub(corrected, markdown)


def site_name(path: str) -> str:
    """Return the name in the site of a file of the repository.

    Args:
        path: Its path from the root of the repository.

    >>> site_name("docs/studies.md"), site_name("results/a/README.md"), site_name("studies/quick.toml")
    ('studies.md', 'results/a/README.md', 'source/studies/quick.toml.txt')
    """
    if path in GUIDES:
        return GUIDES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("examples/") and path.endswith(".ipynb"):
        return path.removesuffix(".ipynb") + ".md"
    if path.startswith("results/"):
        return path
    return f"source/{path}" if Path(path).suffix in SHOWN else f"source/{path}.txt"


def repository_path(name: str) -> str:
    """Return the path in the repository of a page of the site.

    Args:
        name: Its name in the site.
    """
    for path, guide in GUIDES.items():
        if name == guide:
            return path
    if name.startswith("examples/"):
        return name.removesuffix(".md") + ".ipynb"
    return name if name.startswith("results/") else f"docs/{name}"


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: its text, its code, and what it printed.

    Args:
        notebook: Content of the notebook's file, in format 4.
    """
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            parts.extend(_shown(output))
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> Iterable[str]:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        yield f'<div class="output">{"".join(data["image/svg+xml"])}</div>'
    else:
        text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
        if text:
            yield f"```text\n{text}\n```"


def _linked(page: File) -> Iterable[str]:
    """Yield the paths from the repository's root that a page links to."""
    here = posixpath.dirname(repository_path(page.src_uri))
    for found in PIECES.finditer(page.content_string):
        if found["target"] and ":" not in found["target"]:
            yield posixpath.normpath(posixpath.join(here, found["target"]))


def _add(files: Files, config: MkDocsConfig, name: str, path: Path) -> None:
    if path.suffix == ".md":
        files.append(File.generated(config, name, content=path.read_text("utf-8")))
    else:
        files.append(File.generated(config, name, abs_src_path=str(path)))
