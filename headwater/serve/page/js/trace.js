// What the server's tools did for an answer: a folding panel for each call, with what it was asked and what came back.

import { codeBlock } from "./code.js";
import { icon, make, saveAs } from "./dom.js";
import { isPicture, link } from "./markdown.js";
import { translate, word } from "./words.js";

const BUDGETS = { steps: "budgetSteps", tokens: "budgetTokens", seconds: "budgetSeconds", context: "budgetContext" };
const MOST_TEXT = 20_000; // characters shown of what came back

export class Trace {
  // `loaded` is called when a picture has its size.
  constructor(body, loaded) {
    this.body = body;
    this.loaded = loaded;
    this.panels = new Map();
  }

  // An event as event.js makes it. Of what a tool says only text, pictures inside and links of the web show.
  show(event) {
    if (event.type === "call") this.call(event);
    else if (event.type === "observation") this.observation(event);
    else if (event.type === "budget") this.body.append(note(Object.hasOwn(BUDGETS, event.what) ? BUDGETS[event.what] : "budget"));
  }

  call({ id, name, arguments: asked }) {
    const panel = make("section", "call running");
    const fold = make("details");
    const summary = make("summary");
    const state = make("span", "state");
    state.dataset.text = "running";
    const title = make("span", "name", name);
    const { text, language } = program(name, asked);
    summary.append(icon(name), labelled("called"), title, make("code", "peek", peek(text, language)), state);
    fold.append(summary, labelled("asked", "part"), codeBlock(text, language));
    panel.append(fold);
    this.body.append(translate(panel));
    this.panels.set(id, panel);
    return panel;
  }

  observation({ id, text, failed, images, sources }) {
    const panel = this.panels.get(id) ?? this.call({ id, name: "", arguments: "" });
    panel.classList.remove("running");
    panel.classList.toggle("failed", failed);
    panel.querySelector(".state").dataset.text = failed ? "toolFailed" : "finished";
    if (text) {
      const result = make("pre", "result", text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text);
      result.dir = "auto";
      panel.firstElementChild.append(labelled("gave", "part"), result);
    }
    const name = panel.querySelector(".name").textContent;
    for (const address of images) panel.append(isPicture(address) ? picture(address, name, this.loaded) : note("pictureGone"));
    if (sources.length) panel.append(sourceList(sources));
    translate(panel);
  }

  // The answer is over, whatever is still open.
  finish() {
    for (const panel of this.panels.values()) {
      if (!panel.classList.contains("running")) continue;
      panel.classList.remove("running");
      panel.querySelector(".state").dataset.text = "stopped";
      translate(panel);
    }
  }
}

// Arguments are JSON, or a program of its own; a JSON object that holds only a program is that program.
function program(name, text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object") return { text, language: "" };
    if (typeof value.code === "string" && Object.keys(value).length === 1) return { text: value.code, language: "python" };
    return { text: JSON.stringify(value, null, 2), language: "json" };
  } catch {
    return { text, language: name === "python" ? "python" : "" };
  }
}

const peek = (text, language) => // its first line; of JSON, which has only a brace there, all
  (language === "json" ? text.replace(/\n\s*/g, " ") : text.trim().split("\n")[0]).slice(0, 200);

function labelled(key, className = "") {
  const element = make("span", className, word(key));
  element.dataset.text = key;
  return element;
}

function note(key) {
  const element = make("p", "note", word(key));
  element.dataset.text = key;
  return element;
}

function picture(address, name, loaded) {
  const figure = make("figure", "picture");
  const image = make("img");
  image.alt = `${word("picture")} ${name}`;
  image.addEventListener("load", loaded);
  image.src = address;
  const save = make("button", "quiet");
  save.type = "button";
  save.dataset.title = "savePicture";
  save.append(icon("save"));
  save.addEventListener("click", () => saveAs(`picture.${/^data:image\/(\w+)/i.exec(address)[1]}`, address));
  figure.append(image, save);
  return figure;
}

function sourceList(sources) {
  const box = make("div", "sources");
  const items = make("ol");
  for (const [address, title] of sources) {
    const item = make("li");
    item.append(link(address ?? "", title || address || ""));
    items.append(item);
  }
  box.append(labelled("sources", "part"), items);
  return box;
}
