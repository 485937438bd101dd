"""matplotlib's settings in the session's folder, inside the walls: Chinese in plots, where a font for it is here."""

from __future__ import annotations

import os

_CHINESE = {"NotoSansCJK": "Noto Sans CJK SC", "NotoSansSC": "Noto Sans SC", "SourceHanSansSC": "Source Han Sans SC",
            "SourceHanSansCN": "Source Han Sans CN", "wqy-zenhei": "WenQuanYi Zen Hei",
            "wqy-microhei": "WenQuanYi Micro Hei", "DroidSansFallback": "Droid Sans Fallback"}
"""How a font's files begin, and what it is called."""
_FONTS = "/usr/share/fonts"


def configure(folder: str) -> None:
    """Letters that the usual font lacks come from a Chinese one. Named as families: a fallback from letter to letter
    is not had from matplotlib's list of sans-serif fonts."""
    os.mkdir(folder)
    os.environ["MPLCONFIGDIR"] = folder
    names = [name for _, _, files in os.walk(_FONTS) for name in files]
    found = next((family for start, family in _CHINESE.items() if any(name.startswith(start) for name in names)), None)
    if found is not None:
        with open(os.path.join(folder, "matplotlibrc"), "w") as stream:
            stream.write(f"font.family: DejaVu Sans, {found}\n")
