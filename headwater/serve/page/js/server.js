// What the server offers, and what is chosen of it: a model, tools, questions to begin with.

import { $, icon, make } from "./dom.js";
import { ApiError, listExamples, listModels, listTools } from "./api.js";
import { read, write } from "./store.js";
import { locale, word } from "./words.js";

const KNOWN_TOOLS = ["python", "browser", "cogview"]; // those the page has a word and a picture for
const offered = { models: [], tools: [], examples: [] };
const state = { model: null, problem: "offline", on: new Set(read("tools", "").split("\n").filter(Boolean)),
  met: Promise.resolve() };

export const model = () => state.model?.id ?? "";
export const room = () => state.model?.max_model_len ?? 0; // tokens of the model's context
export const met = () => state.met; // settles when what is offered is known, or that nobody answers
export const tools = () => offered.tools.filter((tool) => state.on.has(tool.type)).map((tool) => ({ type: tool.type }));

// Asks the server anew; `ask` is called with a proposed question that was chosen. The promise is false where the server
// wants a key that it did not get.
export function connect(ask) {
  return state.met = meet(ask);
}

async function meet(ask) {
  try {
    offered.models = await listModels();
    choose(read("model", ""));
  } catch (error) {
    state.model = null;
    state.problem = error instanceof ApiError && error.code === "invalid_api_key" ? "needsKey" : "offline";
  }
  showModels();
  if (!state.model) return state.problem !== "needsKey";
  [offered.tools, offered.examples] = await Promise.all([listTools(), listExamples()]);
  showTools();
  showExamples(ask);
  return true;
}

export function choose(id) {
  state.model = offered.models.find((other) => other.id === id) ?? offered.models[0] ?? null;
}

export function showOffered(ask) {
  showModels();
  showTools();
  showExamples(ask);
}

// One model is told, several are to be chosen from; adapters stand under a heading of their own.
function showModels() {
  const several = offered.models.length > 1;
  $("models").hidden = !several;
  $("model").hidden = several;
  $("model").textContent = state.model ? model() : word(state.problem);
  $("models").replaceChildren(...(several ? ["models", "adapters"] : []).flatMap((kind) => {
    const group = make("optgroup");
    group.label = word(kind);
    group.append(...offered.models.filter((one) => (kind === "adapters") === Boolean(one.parent)).map((one) => {
      const option = make("option", "", one.id);
      option.value = one.id;
      option.selected = one.id === model();
      return option;
    }));
    return group.childElementCount ? [group] : [];
  }));
}

function showTools() {
  $("tools").hidden = offered.tools.length === 0;
  $("tools").replaceChildren(...offered.tools.map(({ type, label }) => {
    const known = KNOWN_TOOLS.includes(type);
    const button = make("button", "tool");
    button.type = "button";
    button.setAttribute("aria-pressed", String(state.on.has(type)));
    button.append(icon(type), make("span", "", known ? word(type) : String(label ?? type)));
    if (known && typeof label === "string") button.title = label;
    button.addEventListener("click", () => {
      if (!state.on.delete(type)) state.on.add(type);
      write("tools", [...state.on].join("\n"));
      button.setAttribute("aria-pressed", String(state.on.has(type)));
    });
    return button;
  }));
}

// What the run's own report asked, where there is one: a small model knows its own subject only.
function showExamples(ask) {
  const texts = offered.examples.length ? offered.examples : word("examples");
  $("examples").replaceChildren(...texts.map((text) => {
    const button = make("button", "example", text);
    button.type = "button";
    button.lang = /\p{Script=Han}/u.test(text) ? "zh-CN" : locale();
    button.addEventListener("click", () => ask(text));
    return button;
  }));
}
