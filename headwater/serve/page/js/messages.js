// The conversation on the page: questions as plain text, answers as Markdown with what tools did between.

import { $, copyText, icon, make, nearBottom, sends } from "./dom.js";
import { LiveText } from "./live.js";
import { Trace } from "./trace.js";
import { translate, word } from "./words.js";

const NOTES = { stopped: "stopped", length: "full", offline: "offline", failed: "failed" };

let pinned = true; // whoever reads at the end wants to stay there as the text grows

export function startMessages() {
  $("scroller").addEventListener("scroll", () => { pinned = nearBottom($("scroller")); }, { passive: true });
}

function following(show) {
  show();
  if (pinned) toEnd();
}

export function toEnd() {
  pinned = true;
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

export function clear() {
  $("messages").replaceChildren();
  $("welcome").hidden = false;
}

function addItem(role) {
  $("welcome").hidden = true;
  const item = make("li", role);
  const label = make("span", "label");
  label.dataset.text = role === "user" ? "you" : "assistant";
  item.append(translate(label));
  $("messages").append(item);
  return item;
}

function addAction(bar, key, picture, act) {
  const button = make("button", `quiet action ${key}`);
  button.type = "button";
  button.dataset.title = key;
  button.append(icon(picture));
  button.addEventListener("click", () => act(button));
  bar.append(translate(button));
}

function copying(text) {
  return async (button) => {
    await copyText(text());
    copied(button);
  };
}

export function copied(button) {
  button.classList.add("copied");
  $("status").textContent = word("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

// `edited` is called with the new text when the question was changed.
export function showQuestion(text, edited) {
  const item = addItem("user");
  const body = make("div", "said", text);
  body.dir = "auto";
  const bar = make("div", "actions");
  addAction(bar, "edit", "edit", () => edit(item, text, edited));
  addAction(bar, "copy", "copy", copying(() => text));
  item.append(body, bar);
  return item;
}

function edit(item, text, edited) {
  const form = make("form", "editing");
  const field = make("textarea");
  field.value = text;
  field.rows = Math.min(10, text.split("\n").length + 1);
  field.dataset.title = "edit";
  const buttons = make("div", "buttons");
  const [cancel, send] = ["cancel", "send"].map((key) => {
    const button = make("button", key === "send" ? "strong" : "plain");
    button.type = key === "send" ? "submit" : "button";
    button.dataset.text = key;
    return button;
  });
  const close = () => { form.remove(); item.classList.remove("edited"); item.querySelector(".edit").focus(); };
  cancel.addEventListener("click", close);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) edited(field.value.trim());
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing) { event.stopPropagation(); close(); }
    if (sends(event)) { event.preventDefault(); form.requestSubmit(); }
  });
  buttons.append(cancel, send);
  form.append(field, buttons);
  item.classList.add("edited");
  item.append(translate(form));
  field.focus();
  field.setSelectionRange(text.length, text.length);
}

// One answer, growing or whole.
export class Answer {
  constructor() {
    this.item = addItem("assistant");
    this.item.classList.add("waiting");
    this.item.setAttribute("aria-busy", "true");
    this.body = make("div", "body");
    this.item.append(this.body);
    this.trace = new Trace(this.body, () => following(() => {}));
    this.live = null;
  }

  text(piece) {
    this.item.classList.remove("waiting");
    if (!this.live) {
      const part = make("div", "text");
      part.dir = "auto";
      this.body.append(part);
      this.live = new LiveText(part, following);
    }
    this.live.push(piece);
  }

  event(event) {
    this.live?.finish();
    this.live = null;
    this.item.classList.add("waiting");
    following(() => this.trace.show(event));
  }

  // Shows a kept message: what tools did stands where it happened in the text.
  replay(message, again) {
    let shown = 0;
    for (const event of message.agent ?? []) {
      if (event.at > shown) this.text(message.content.slice(shown, event.at));
      shown = Math.max(shown, event.at);
      this.event(event);
    }
    if (message.content.length > shown) this.text(message.content.slice(shown));
    this.finish(message, again);
  }

  // `again` asks once more for this answer.
  finish(message, again) {
    this.live?.finish();
    this.live = null;
    this.trace.finish();
    this.item.classList.remove("waiting");
    this.item.removeAttribute("aria-busy");
    if (Object.hasOwn(NOTES, message.ended ?? "")) this.note(NOTES[message.ended], message.detail);
    const bar = make("div", "actions");
    if (message.content) addAction(bar, "copy", "copy", copying(() => message.content));
    addAction(bar, ["failed", "offline"].includes(message.ended) ? "retry" : "regenerate", "again", again);
    if (message.model) bar.append(make("span", "by", message.model));
    following(() => this.item.append(bar));
  }

  note(key, detail = "") {
    const note = make("p", "note", word(key) + detail);
    if (!detail) note.dataset.text = key;
    if (key === "offline" || key === "failed") note.classList.add("bad");
    following(() => this.item.append(note));
  }
}
