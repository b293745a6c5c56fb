r"""Style sheet of pages: colours of the light and the dark theme, and of drawings inside a page.

>>> "prefers-color-scheme:dark" in THEME
True
"""

from __future__ import annotations

THEME = """
:root{--ink:#1f2933;--soft:#5a6672;--line:#dde3e9;--page:#fff;--card:#fff;--shade:#f4f6f8;--link:#2458a6;
--level:#3d6fb4;--track:#e3e8ed;--support:#2e8b57;--attack:#c0392b;--premise:#9aa5b1}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#a3aeb9;--line:#38424d;--page:#14181d;--card:#1b2127;
--shade:#232a32;--link:#8ab4f2;--level:#6f9fe0;--track:#38424d;--support:#4fb57d;--attack:#e5695c;--premise:#75818d}}
body .argmap text{fill:var(--ink)}body .argmap .caption{fill:var(--soft)}body .argmap a{text-decoration:none}
body .argmap a:hover .box{stroke:var(--link)}
body .argmap .box{fill:var(--card);stroke:var(--line)}body .argmap .argument .box{fill:var(--shade)}
body .argmap .thesis .box{stroke:var(--ink)}body .argmap .track{fill:var(--track)}
body .argmap .level{fill:var(--level)}body .argmap .mark{fill:var(--ink)}
body .argmap .edge.support{stroke:var(--support)}body .argmap .head.support{fill:var(--support)}
body .argmap .edge.attack,body .argmap .edge.undercut{stroke:var(--attack)}
body .argmap .head.attack,body .argmap .head.undercut{fill:var(--attack)}
body .argmap .edge.premise{stroke:var(--premise)}
"""
