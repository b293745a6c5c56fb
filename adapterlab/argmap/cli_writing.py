"""The `adapterlab map` commands that draw, export and format a map, and serve it to editors.

>>> app = typer.Typer()
>>> add_to(app)
>>> [command.name for command in app.registered_commands]
['render', 'markdown', 'fmt', 'lsp']
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterlab.argmap.cli_options import File, SemanticsName, SkipBroken, Watch, read_map, show
from adapterlab.names import printable


def add_to(app: typer.Typer) -> None:
    """Register the commands.

    Args:
        app: The command line that they belong to.
    """
    app.command("render")(_render)
    app.command("markdown")(_markdown)
    app.command("fmt")(_fmt)
    app.command("lsp")(_lsp)


def _render(
    file: File,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output file: .html, .svg, .dot, .graphml or .json.", show_default=False),
    ],
    semantics: SemanticsName = None,
    skip_broken: SkipBroken = False,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", help="Only elements with one of these tags: pro,con. May be repeated.")
    ] = None,
    section: Annotated[
        list[str] | None,
        typer.Option("--section", help="Only elements of this section and those below it. May be repeated."),
    ] = None,
    watching: Watch = False,
) -> None:
    """Draw a map as a page or an image, or export it as DOT, GraphML or JSON.

    Without --tags and --section, the `selection:` settings of the map decide what is drawn. Credences are those of the
    whole map.
    """
    from adapterlab.argmap.tools.formats import write
    from adapterlab.argmap.tools.watch import watch

    chosen = [tag.strip().removeprefix("#") for item in tags or [] for tag in item.split(",") if tag.strip()]

    def build() -> str:
        the_map = read_map(file, skip_broken)
        part = write(the_map, out, semantics, skip_broken, chosen, section or [])
        if part is the_map:
            return str(out)
        claims = f"{len(part.claims)} of {len(the_map.claims)} claims"
        return f"{out}: {claims}, {len(part.arguments)} of {len(the_map.arguments)} arguments"

    if watching:
        watch(file, build)
    show(build())


def _markdown(
    file: Annotated[Path, typer.Argument(help="A Markdown file with ```argdown fences.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Output file: .html with the drawings inside, or .md with image files beside it.",
            show_default=False,
        ),
    ],
    semantics: SemanticsName = None,
    watching: Watch = False,
) -> None:
    """Replace the maps in a Markdown file by drawings."""
    from adapterlab.argmap.model.files import read_text
    from adapterlab.argmap.tools.markdown import write_markdown
    from adapterlab.argmap.tools.watch import watch
    from adapterlab.errors import AdapterlabError

    if out.resolve() == file.resolve():
        raise AdapterlabError(f"--out {out} is the file itself: give another name")

    def build() -> str:
        return " ".join(str(path) for path in write_markdown(read_text(file), str(file), out, semantics))

    if watching:
        watch(file, build)
    show(build())


def _fmt(
    file: File,
    to_stdout: Annotated[bool, typer.Option("--stdout", help="Print the result instead of writing the file.")] = False,
    only_check: Annotated[
        bool, typer.Option("--check", help="Write nothing; the exit code is 1 if the file would change.")
    ] = False,
) -> None:
    """Format a map without changing its content.

    On a terminal, --stdout shows control characters as escapes; into a file or a pipe it writes them as they are.
    """
    from adapterlab.argmap.model.files import read, write_text
    from adapterlab.argmap.tools.fmt import format_map

    text = read(file).source.files[str(file)].text
    formatted = format_map(text, str(file), file.parent)
    if to_stdout:
        print(printable(formatted) if sys.stdout.isatty() else formatted, end="")
    elif formatted != text:
        if only_check:
            show(f"{file} would be reformatted")
            raise typer.Exit(1)
        write_text(file, formatted)
        show(f"{file} reformatted")


def _lsp() -> None:
    """Serve maps to an editor by the language server protocol, over standard input and output."""
    from adapterlab.errors import AdapterlabError

    try:
        from adapterlab.argmap.lsp.server import start
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise AdapterlabError("the language server needs pygls 2: pip install 'adapterlab[lsp]'") from None
    start()
