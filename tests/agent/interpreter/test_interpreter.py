"""The tool: pictures, files, packages, what it says of itself, and when it refuses."""

import io
import json
import socket
import sys

import pytest

from headwater.agent.interpreter import interpreter as module
from headwater.agent.interpreter.interpreter import LONGEST_CODE, Interpreter, InterpreterSettings
from headwater.agent.interpreter.packages import found_packages
from headwater.agent.tool import ToolError
from headwater.errors import InputError
from headwater.sandbox.isolation import Isolation

PNG = b"\x89PNG\r\n\x1a\n" + bytes(9)


def _write(name, data=PNG):
    return f"open({name!r}, 'wb').write({data!r});\n"


def test_figures_come_back_as_pictures_and_are_closed(open_notebook):
    pytest.importorskip("matplotlib")
    pillow = pytest.importorskip("PIL.Image")
    cell = open_notebook(packages=("matplotlib",), memory_mib=2048)
    observation = cell("import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 2), dpi=50)\nplt.plot([1, 3])\n"
                       "plt.title('河流')\nplt.savefig('same.png')\nplt.figure()\nplt.show()")
    assert "non-interactive" not in observation.text
    assert observation.text.endswith("[1 picture shown to the user]")
    [image] = observation.images
    assert image.media_type == "image/png"
    assert pillow.open(io.BytesIO(image.data)).size == (150, 100)
    assert not cell("plt.plot([1, 2])\nplt.close()").images
    assert cell("plt.get_fignums()").text == "[]"


def test_a_figure_that_cannot_be_drawn_is_told(open_notebook):
    pytest.importorskip("matplotlib")
    cell = open_notebook(packages=("matplotlib",), memory_mib=2048)
    observation = cell("import matplotlib.pyplot as plt\nplt.title('$\\\\frac$')")
    assert observation.failed
    assert "ParseSyntaxException" in observation.text or "ValueError" in observation.text
    assert cell("plt.get_fignums()").text == "[]"


def test_numpy_and_pandas_work_where_they_are_installed(open_notebook):
    pytest.importorskip("pandas")
    cell = open_notebook(packages=("numpy", "pandas"), memory_mib=2048)
    assert cell("import numpy as np, pandas as pd\npd.DataFrame({'a': np.arange(4)}).a.sum()").text == "np.int64(6)"
    assert cell("import pydantic").text.endswith("ModuleNotFoundError: No module named 'pydantic'")
    assert cell("import numpy.none").text.endswith("ModuleNotFoundError: No module named 'numpy.none'")


def test_the_last_value_may_have_a_picture_of_itself(cell):
    observation = cell(f"class A:\n    def _repr_png_(self):\n        return {PNG!r}\n    def __repr__(self):\n"
                       "        return 'A'\nA()")
    assert observation.text == "A\n[1 picture shown to the user]"
    assert [image.data for image in observation.images] == [PNG]


def test_pictures_left_in_the_folder_come_back_once(cell):
    jpeg, gif, webp = b"\xff\xd8\xff\xe0rest", b"GIF89arest", b"RIFF\0\0\0\0WEBPrest"
    observation = cell(_write("b.JPG", jpeg) + _write("a.png") + _write("c.gif", gif) + _write("d.webp", webp)
                       + _write("e.txt"))
    assert [image.data for image in observation.images] == [PNG, jpeg, gif, webp]
    assert [image.media_type for image in observation.images] == ["image/png", "image/jpeg", "image/gif", "image/webp"]
    assert not cell("1").images
    assert [image.data for image in cell(_write("a.png", PNG + b"more")).images] == [PNG + b"more"]


def test_pictures_are_found_wherever_the_cell_has_gone(cell):
    assert cell(_write("a.png") + "import os\nos.mkdir('sub')\nos.chdir('sub');").images


def test_only_regular_files_of_the_folder_itself_are_collected(cell, tmp_path):
    (tmp_path / "outside.png").write_bytes(PNG)
    observation = cell(f"import os\nos.symlink({str(tmp_path / 'outside.png')!r}, 'link.png')\nos.mkdir('folder.png')\n"
                       "os.symlink('/dev/zero', 'endless.png')\nos.symlink('link.png', 'twice.png')\n"
                       "try:\n    os.mkfifo('waits.png')\nexcept OSError:\n    pass")
    assert observation.text == "[no output]"
    assert not observation.images


def test_what_is_no_picture_or_beyond_the_bounds_is_left_out_and_said(open_notebook):
    cell = open_notebook(images=2, image_kib=1)
    page = b"<svg onload='alert(1)'></svg>"
    assert "[1 left out" in cell(_write("page.png", page)).text
    assert "[1 left out" in cell(_write("large.png", PNG + bytes(1024))).text
    many = cell("".join(_write(f"{n}.png", PNG + bytes([n])) for n in range(5)))
    assert len(many.images) == 2
    assert "[2 pictures shown to the user]\n[3 left out" in many.text


def test_files_that_the_user_gives_lie_in_the_folder_of_every_session(open_notebook, tmp_path):
    table = tmp_path / "湖 table.csv"
    table.write_text("name,depth\nOruma,120\n")
    cell = open_notebook(files=(table,))
    assert cell("open('湖 table.csv').read()").text == repr(table.read_text())
    cell("open('湖 table.csv', 'w').write('mine')")
    assert table.read_text().startswith("name")
    cell("import os\nos._exit(0)")
    assert "Oruma" in cell("open('湖 table.csv').read()").text
    assert "湖 table.csv" in cell.tool.definitions[0].description


def test_files_that_cannot_be_had_are_refused_at_once(level, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Interpreter(InterpreterSettings(files=(tmp_path / "none",)))
    (tmp_path / "large").write_bytes(bytes(3 << 19))
    with pytest.raises(InputError, match=r"1\.5 MiB, its folder 1"):
        Interpreter(InterpreterSettings(files=(tmp_path / "large",), disk_mib=1))
    with pytest.raises(ValueError, match="two files are called 'a'"):
        InterpreterSettings(files=("x/a", "y/a"))


def test_what_the_model_is_told(level):
    [definition] = Interpreter(InterpreterSettings(packages=("numpy", "no-such-package"), seconds=7)).definitions
    assert (definition.name, definition.free_text) == ("python", True)
    assert definition.parameters["required"] == ["code"]
    assert json.dumps(definition.plain())
    assert "7 seconds" in definition.description
    assert "no-such-package" not in definition.description


@pytest.mark.parametrize(("name", "arguments", "told"), [
    ("shell", {"code": "1"}, "python takes"), ("python", {}, "argument `code`"), ("python", {"code": 1}, "`code`"),
    ("python", {"code": "x" * (LONGEST_CODE + 1)}, "262,145 letters")], ids=["name", "none", "number", "long"])
def test_calls_that_are_none_are_refused(level, open_notebook, name, arguments, told):
    cell = open_notebook()
    with pytest.raises(ToolError, match=told):
        cell.loop.run(cell.tool.call(name, arguments))


def test_a_long_program_arrives_whole(cell):
    assert cell("x = 0\n" + "x += 1\n" * 30_000 + "x").text == "30000"


def test_a_session_that_cannot_start_is_told(level, open_notebook, monkeypatch):
    cell = open_notebook(memory_mib=256, disk_mib=1)
    monkeypatch.setattr(cell.tool, "_files", {"a/b": b"x"})  # no such folder inside
    with pytest.raises(ToolError, match=r"could not be started[\s\S]*No such file"):
        cell("1")
    monkeypatch.setattr(cell.tool, "_files", {})
    assert cell("1").text == "1"


@pytest.fixture
def unwalled(monkeypatch):
    def refuse():
        raise InputError("nothing holds here", fix="use Linux")

    monkeypatch.setattr(module, "isolation", refuse)


def test_without_walls_it_does_not_start(unwalled):
    with pytest.raises(InputError, match=r"nothing holds here[\s\S]*use Linux[\s\S]*`force`"):
        Interpreter(InterpreterSettings())


def test_forced_it_runs_and_is_named_none(unwalled, notebooks, capsys, tmp_path):
    (tmp_path / "canary").write_text("read")
    (tmp_path / "outside.png").write_bytes(PNG)
    cell = notebooks(force=True, seconds=1)
    assert cell.tool.isolation == "none"
    assert cell.tool.missing
    assert "without isolation" in "".join(capsys.readouterr())
    assert cell(f"open({str(tmp_path / 'canary')!r}).read()").text == "'read'"
    assert not cell(f"import os\nos.symlink({str(tmp_path / 'outside.png')!r}, 'link.png')").images
    assert cell(_write("own.png")).images
    assert "MemoryError" in cell("x = bytearray(1 << 32)").text
    assert "stopped after 1 s" in cell("while True: pass").text
    assert cell("import os\nos.environ.get('HOME') == os.getcwd()").text == "True"


def test_the_machines_name_is_not_told(cell, level):
    if level != "full":
        pytest.skip("names are the machine's there")
    text = cell("import os, platform, socket\n(socket.gethostname(), platform.node(), os.uname().nodename)").text
    assert text == repr(("sandbox",) * 3)
    assert socket.gethostname() != "sandbox"


@pytest.mark.parametrize("found", [Isolation("full"), Isolation("reduced", ("names can be seen",))],
                         ids=["full", "reduced"])
def test_the_level_that_was_found_is_named(monkeypatch, found):
    monkeypatch.setattr(module, "isolation", lambda: found)
    tool = Interpreter(InterpreterSettings(force=True))
    assert (tool.isolation, tool.missing) == (found.level, found.missing)


def test_packages_come_with_what_they_need_and_nothing_else():
    pytest.importorskip("matplotlib")
    present, paths, folders = found_packages(("matplotlib", "no-such-package"))
    names = {path.rpartition("/")[2] for path in paths}
    assert present == ("matplotlib",)
    assert {"matplotlib", "numpy", "PIL", "six.py"} <= names
    assert not any(name.endswith((".dist-info", ".pth")) or name in ("bin", "pip", "torch", "pytest") for name in names)
    assert all(folder in sys.path for folder in folders)
