"""How smooth the chat page stays while a long answer comes, in Chromium.

    python benchmarks/page.py [--full] [--chromium PATH]

An answer of 10,000 tokens (four characters each) arrives at 1,000 tokens a second; each showing is timed with the
layout that it asks for. The peer shows the same text the plain way: all of it anew in every frame. Cases: paragraphs,
lists, tables, code and formulas in both languages; one list and one block of code without an end, the worst for a page
that keeps what is settled. --quick takes the first alone.
"""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _harness import Case, arguments, report

TOKENS, LETTERS, RATE = 10_000, 4, 1_000
SECTION = """## Rivers 河流

The **Arn** is *long*, its `source` lies [on a hill](https://a.example/hill), with $a^2 + b_1 = \\frac{1}{n}$.

1. **降水与汇集：**雨水和融雪沿着山坡流下，汇成细小的溪流。
2. 侵蚀：流水带走泥沙，河谷越来越深。

| River | km |
|:--|--:|
| Arn | 412 |

```python
def length(river: str) -> int:
    return {"Arn": 412, "Belo": 388}[river]  # km
```

$$v = \\frac{1}{n} R^{2/3} S^{1/2}$$

总之，河流是地表水循环的重要部分，既塑造了地貌，也孕育了文明。

"""
CASES = {
    "mixed": SECTION,
    "one list": "- The **Arn** is 412 km long, see `length(arn)`; 河流很长。\n",
    "one block of code": "    total += lengths[river] * 2  # of both banks\n",
}
MEASURE = """async ([text, size, rate, plain]) => {
  const { LiveText } = await import('/js/live.js');
  const { elements, parse } = await import('/js/markdown.js');
  const place = document.createElement('div');
  place.className = 'text';
  document.querySelector('#welcome').replaceChildren(place);
  const took = [];
  const timed = (show) => {
    const began = performance.now();
    show();
    place.offsetHeight;
    took.push(performance.now() - began);
  };
  const live = new LiveText(place, timed);
  let arrived = 0;
  const began = performance.now();
  const pieces = async (push) => {
    while (arrived < text.length) {
      await new Promise(requestAnimationFrame);
      const due = Math.min(text.length, Math.floor((performance.now() - began) / 1000 * rate) * size);
      if (due > arrived) push(text.slice(arrived, due));
      arrived = due;
    }
  };
  if (plain) await pieces((piece) => {
    live.source += piece;
    timed(() => place.replaceChildren(elements(parse(live.source, {}), {})));
  });
  else {
    await pieces((piece) => live.push(piece));
    live.finish();
  }
  place.remove();
  return took;
}"""


@contextmanager
def serving() -> Iterator[str]:
    import uvicorn
    from starlette.applications import Starlette

    from headwater.serve.server import listen
    from headwater.serve.static import page_routes

    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=page_routes()), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def compare(page: Any, name: str) -> list[Case]:
    start = "```python\n" if "code" in name else ""
    section = CASES[name]
    text = (start + section * (TOKENS * LETTERS // len(section) + 1))[:TOKENS * LETTERS]
    ours, theirs = (page.evaluate(MEASURE, [text, LETTERS, RATE, plain]) for plain in (False, True))
    print(f"{name}: {len(ours)} and {len(theirs)} showings", file=sys.stderr, flush=True)
    kinds = {"a showing, median ms": statistics.median, "the longest showing, ms": max,
             "all of them, ms": sum}
    return [Case.compare(name, metric, of(ours), "all anew each frame", of(theirs), more_is_better=False)
            for metric, of in kinds.items()]


def main() -> None:
    options = arguments(__doc__, ("--chromium", {"default": "/usr/bin/chromium", "metavar": "PATH"}))
    from playwright.sync_api import sync_playwright

    names = list(CASES) if options.full else list(CASES)[:1]
    with serving() as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        rows = [row for name in names for row in compare(page, name)]
        browser.close()
    report("page", rows, {"a frame at 60 Hz, ms": 1000 / 60}, ("playwright",))


if __name__ == "__main__":
    main()
