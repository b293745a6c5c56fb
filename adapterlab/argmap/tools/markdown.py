r"""Maps in Markdown: the code fences of a file become drawings.

A fence is a map if its first word is `argdown` or `argdown-map`, as in the reference implementation.

>>> text = "Weather:\n\n```argdown\n[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}\n```\n"
>>> [(fence.first, fence.last) for fence in fences(text, "notes.md")]
[(2, 6)]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from adapterlab.argmap.model.build import parse
from adapterlab.argmap.model.files import write_text
from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.scores import score
from adapterlab.argmap.syntax.diagnostics import errors
from adapterlab.argmap.tools.characters import legible
from adapterlab.argmap.tools.draw import to_svg
from adapterlab.argmap.tools.select import select
from adapterlab.argmap.tools.theme import THEME
from adapterlab.errors import AdapterlabError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

KINDS = ("argdown", "argdown-map")


@dataclass(frozen=True)
class Fence:
    """A map in a Markdown file."""

    first: int
    """Line of the opening fence, from 0."""
    last: int
    """Line behind the closing fence, from 0."""
    map: Map
    """The map; lines in its messages are those of the file."""


def fences(text: str, name: str) -> list[Fence]:
    """Return the maps in a Markdown file.

    Args:
        text: The text of the file.
        name: Name of the file in messages.

    Raises:
        AdapterlabError: A map has errors; the message shows the first ones.
    """
    return [_fence(token, name) for token in _markdown().parse(text) if _is_map(token)]


def write_markdown(text: str, name: str, out: Path, semantics: str | None = None) -> list[Path]:
    """Write a Markdown file with drawings in place of its maps.

    Args:
        text: The text of the file.
        name: Name of the file in messages.
        out: `.html` for one page with the drawings inside; `.md` for Markdown with images in files beside it.
        semantics: As in `score`.

    Returns:
        The files that were written; the result is the last.

    Raises:
        UnknownNameError: The suffix is unknown.
        AdapterlabError: A map has errors, or a file cannot be written.
    """
    if out.suffix not in (".html", ".md"):
        raise UnknownNameError("format", out.suffix or str(out), [".html", ".md"], "--out")
    found = fences(text, name)
    drawings = [to_svg(select(fence.map), score(fence.map, semantics), width=0) for fence in found]
    written: list[Path] = []
    if out.suffix == ".html":
        result = _page(text, name, drawings)
    else:
        images = [out.with_name(f"{out.stem}-{number}.svg") for number in range(1, len(found) + 1)]
        for image, drawing in zip(images, drawings, strict=True):
            write_text(image, drawing)
        result = _with_images(text, found, [image.name for image in images])
        written.extend(images)
    write_text(out, result)
    return [*written, out]


def _markdown(renderer: type[RendererHTML] | None = None) -> MarkdownIt:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML

    return MarkdownIt("js-default", renderer_cls=renderer or RendererHTML)


def _is_map(token: Token) -> bool:
    return token.type == "fence" and (token.info.split() or [""])[0] in KINDS


def _fence(token: Token, name: str) -> Fence:
    first, last = token.map or [0, 0]
    # Empty lines put the lines of messages where they are in the file.
    the_map = parse("\n" * (first + 1) + token.content, name)
    found = errors(the_map.diagnostics)
    if found:
        raise AdapterlabError(found[0].render(the_map.source))
    return Fence(first, last, the_map)


def _with_images(text: str, found: Sequence[Fence], images: Sequence[str]) -> str:
    lines = text.splitlines(keepends=True)
    for fence, image in reversed(list(zip(found, images, strict=True))):
        opening = lines[fence.first]
        mark = re.search(r"`{3,}|~{3,}", opening)
        before = opening[: mark.start()] if mark else ""  # a list item or a quotation around the fence
        title = str(fence.map.settings.get("title") or "argument map")
        alt = re.sub(r"([\[\]\\])", r"\\\1", " ".join(title.split()))
        lines[fence.first : fence.last] = [f"{before}![{alt}](<{image}>)\n"]
    return "".join(lines)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{theme}
body{{font:16px/1.55 system-ui,Roboto,'DejaVu Sans',sans-serif;color:var(--ink);background:var(--page)}}
body{{max-width:1140px;margin:2em auto;padding:0 1em;overflow-wrap:anywhere}}
p,ul,ol,blockquote{{max-width:46rem}}figure{{margin:1.5em 0;overflow-x:auto}}
figure svg{{display:block}}pre{{overflow-x:auto}}img{{max-width:100%}}
a{{color:var(--link)}}table{{border-collapse:collapse}}td,th{{border:1px solid var(--line);padding:.3em .6em}}
</style></head><body>
{body}</body></html>
"""


def _page(text: str, name: str, drawings: Sequence[str]) -> str:
    from markdown_it.renderer import RendererHTML

    waiting = iter(drawings)

    class Renderer(RendererHTML):
        """HTML with drawings in place of the maps."""

        def fence(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
            if _is_map(tokens[index]):
                return f"<figure>{next(waiting)}</figure>\n"
            return super().fence(tokens, index, options, env)

    markdown = _markdown(Renderer)
    tokens = markdown.parse(text)
    heading = next((tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"), "")
    body = markdown.renderer.render(tokens, markdown.options, {})
    return legible(_PAGE.format(theme=THEME, title=escape(heading or Path(name).stem), body=body))
