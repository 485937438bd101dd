"""Cells are run as a notebook runs them."""

import pytest


def test_names_stay_from_cell_to_cell(cell):
    assert cell("x = 20\ndef f(n):\n    return n + x").text == "[no output]"
    assert cell("x = 7\nf(20)").text == "27"


SHOWN = {
    "expression": ("1 + 1", "2"),
    "none": ("None", "[no output]"),
    "assignment": ("x = 3", "[no output]"),
    "semicolon": ("1 + 1;", "[no output]"),
    "behind_statements": ("print('a')\nfor n in range(2):\n    n\n'b'", "a\n'b'"),
    "only_the_last": ("1\n2", "2"),
    "underscore": ("5\n", "5"),
    "chinese": ("'河流'", "'河流'"),
    "empty": ("", "[no output]"),
    "comment": ("# nothing", "[no output]"),
    "order_of_streams": ("import sys\nprint('a', end='')\nprint('b', end='', file=sys.stderr)\nprint('c', end='')\n"
                         "sys.stderr.write('d')\nimport os\n_ = os.write(1, b'e')", "abcde"),
    "native_output": ("import ctypes\nlibc = ctypes.CDLL(None)\n_ = libc.puts(b'native'), libc.fflush(None)", "native"),
    "no_utf8": ("import sys\n_ = sys.stdout.buffer.write(b'a\\xffb')", "a\ufffdb"),
    "no_input": ("try:\n    input()\nexcept EOFError:\n    print('none')", "none"),
    "pickled_class": ("import pickle\nclass A:\n    pass\ntype(pickle.loads(pickle.dumps(A()))) is A", "True"),
    "annotations_are_evaluated": ("def f(x: 1 + 1): pass\nf.__annotations__", "{'x': 2}"),
    "own_module": ("open('mine.py', 'w').write('y = 27')\nimport mine\nmine.y", "27"),
    "source_of_a_function": ("def f():\n    return 1\nimport inspect\nprint(inspect.getsource(f))",
                             "def f():\n    return 1"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_what_a_cell_shows(cell, case):
    code, shown = SHOWN[case]
    observation = cell(code)
    assert (observation.text, observation.failed) == (shown, False)


RAISED = {
    "own": ("1 / 0", "ZeroDivisionError: division by zero"),
    "syntax": ("def f(:", "SyntaxError"),
    "null": ("x = 1\0", "null bytes"),
    "surrogate": ("x = '\ud800'", "surrogates not allowed"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "in_repr": ("class A:\n    def __repr__(self):\n        raise ValueError('none')\nA()", "ValueError: none"),
    "in_str": ("class E(Exception):\n    def __str__(self):\n        raise SystemExit\nraise E", "str() failed"),
    "repr_no_text": ("class A:\n    def __repr__(self):\n        return 1\nA()", "TypeError"),
    "recursion": ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
    "memory": ("x = bytearray(1 << 40)", "MemoryError"),
    "memory_piecewise": ("x = []\nwhile True:\n    x.append('a' * (1 << 20) + str(len(x)))", "MemoryError"),
    "huge_repr": ("class A:\n    def __repr__(self):\n        return 'x' * (1 << 40)\nA()", "MemoryError"),
    "chained": ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('k')", "During handling"),
    "group": ("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])", "2 (2 sub-exceptions)"),
    "open_files": ("held = []\nwhile True:\n    held.append(open('/dev/null'))", "Too many open files"),
}


@pytest.mark.parametrize("case", RAISED)
def test_an_exception_is_told_and_the_session_goes_on(cell, case):
    code, told = RAISED[case]
    cell("kept = 27")
    observation = cell(code)
    assert told.replace("2 (", "two (") in observation.text
    assert observation.failed
    assert "headwater" not in observation.text
    cell("x = held = None")
    assert cell("kept").text == "27"


def test_a_traceback_names_cells_and_quotes_their_lines(cell):
    cell("def f():\n    raise ValueError('here')")
    lines = cell("def g():\n    f()\ng()").text.splitlines()
    assert lines == ["Traceback (most recent call last):", '  File "<cell 2>", line 3, in <module>', "    g()",
                     '  File "<cell 2>", line 2, in g', "    f()",
                     '  File "<cell 1>", line 2, in f', "    raise ValueError('here')", "ValueError: here"]


def test_of_a_deep_traceback_the_innermost_frames_are_printed(cell):
    names = "abcdefghijklmnopqrstuvwxyz"
    functions = "".join(f"def {one}(n):\n    return {other}(n + 1)\n" for one, other in zip(names, names[1:] + "a"))
    assert cell(f"{functions}a(0)").text.count("File") <= 41


REPLACED = {
    "streams": "import sys\nsys.stdout = sys.stderr = None",
    "streams_closed": "import sys\nsys.stdout.write('')\nsys.stderr = sys.stdout = open('log', 'w')",
    "interrupts": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    "displayhook": "import sys\nsys.displayhook = sys.excepthook = None",
    "folder": "import os\nos.mkdir('sub')\nos.chdir('sub')",
    "module": "import sys\nsys.modules.pop('__main__')",
    "traced": "import sys\nsys.settrace(lambda *a: None)",
}


@pytest.mark.parametrize("case", REPLACED)
def test_what_a_cell_replaces_does_not_break_the_next(cell, case):
    assert not cell(f"kept = 26\n{REPLACED[case]}").failed
    assert cell("kept + 1").text == "27"
