"""The session's end of the pipes, inside the walls: cells come, answers go. Standard library alone."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

from headwater.agent.interpreter import plotting
from headwater.agent.interpreter.cells import Cells, print_error
from headwater.agent.interpreter.pictures import Pictures, figures
from headwater.sandbox.protocol import read_framed


def run(source: int, verdict: int) -> NoReturn:
    """The first message has files to write and bounds of pictures, each other a cell. Answers are lines of JSON."""
    folder = os.getcwd()
    signal.signal(signal.SIGINT, _ignore)
    os.environ |= {"HOME": folder, "TMPDIR": folder}
    plotting.configure(os.path.join(folder, ".matplotlib"))
    sys.path.insert(0, folder)
    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")  # plt.show(): it is shown at the cell's end
    first = json.loads(read_framed(source))
    for name, data in first["files"].items():
        with open(name, "xb") as stream:
            stream.write(base64.b64decode(data))
    cells, pictures = Cells(), Pictures(folder, first["images"], first["image_bytes"])
    try:
        _answer(verdict, {"cell": 0, "raised": False, "images": [], "left_out": 0})
        while True:
            asked = json.loads(read_framed(source))
            _answer(verdict, _run_cell(cells, pictures, asked["code"], asked["cell"]))
    finally:  # a cell has closed the pipes, or broken what this needs
        os._exit(1)


def _run_cell(cells: Cells, pictures: Pictures, code: str, number: int) -> dict[str, Any]:
    """Interrupts are heard in here and nowhere else."""
    raised, left_out = True, 0
    found: list[bytes] = []
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raised, found = cells.run(code, number)
        try:
            found, left_out = pictures.bounded([*found, *figures(), *pictures.files()])
        except Exception as error:  # a figure that cannot be drawn
            print_error(error)
            raised, found = True, []
    except BaseException:  # interrupted again, while the first interrupt was told
        raised, found = True, []
    finally:
        signal.signal(signal.SIGINT, _ignore)
    images = [base64.b64encode(data).decode() for data in found]
    return {"cell": number, "raised": raised, "images": images, "left_out": left_out}


def _ignore(*_: object) -> None:
    """Unlike SIG_IGN it still ends a wait of the system."""


def _answer(verdict: int, said: dict[str, Any]) -> None:
    left = memoryview(json.dumps(said).encode() + b"\n")
    while left:
        left = left[os.write(verdict, left):]
