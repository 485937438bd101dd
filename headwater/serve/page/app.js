"use strict";

const $ = (id) => document.getElementById(id);
const stored = (key, fallback) => localStorage.getItem(`headwater.${key}`) ?? fallback;
const store = (key, value) => localStorage.setItem(`headwater.${key}`, value);

const state = {
  language: stored("language", navigator.language.startsWith("zh") ? "zh" : "en"),
  model: "",
  examples: [], // questions the server proposes
  room: 0, // tokens of the model's context
  messages: [], // {role, content}, as the API takes them
  dropped: 0, // messages at the front that no longer fit the context
  abort: null, // of the running answer
};
const word = (key) => WORDS[state.language][key];

// Words, theme, settings ---------------------------------------------------------------------------------------

function showWords() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = word(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = word(element.dataset.placeholder);
  for (const element of document.querySelectorAll("[data-title]")) {
    element.title = word(element.dataset.title);
    element.setAttribute("aria-label", word(element.dataset.title));
  }
  $("input").setAttribute("aria-label", word("placeholder"));
  $("language").textContent = word("otherLanguage");
  $("language").lang = state.language === "zh" ? "en" : "zh-CN";
  showExamples();
}

// What the run's own report asked, where there is one: a small model knows its own subject only.
function showExamples() {
  const texts = state.examples.length ? state.examples : word("examples");
  $("examples").replaceChildren(...texts.map((text) => {
    const button = make("button", "example", text);
    button.type = "button";
    button.addEventListener("click", () => ask(text));
    return button;
  }));
}

function showTheme() {
  document.documentElement.dataset.theme = $("theme").value;
}

function showTemperature() {
  $("temperature-value").textContent = Number($("temperature").value).toFixed(1);
}

// Messages -----------------------------------------------------------------------------------------------------

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function nearBottom() {
  const box = $("scroller");
  return box.scrollHeight - box.scrollTop - box.clientHeight < 80;
}

function toBottom() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

function addMessage(role, text) {
  $("welcome").hidden = true;
  const item = make("li", role);
  const body = make("div", "text", text); // textContent only: nothing a model says becomes markup
  body.dir = "auto";
  const label = make("span", "label");
  label.dataset.text = role === "user" ? "you" : "assistant";
  label.textContent = word(label.dataset.text);
  item.append(label, body);
  $("messages").append(item);
  toBottom();
  return { item, body };
}

function addNote(item, key, detail = "") {
  const note = make("p", "note", word(key) + detail);
  if (!detail) note.dataset.text = key;
  item.append(note);
  return note;
}

function addAction(item, key, act) {
  const button = make("button", "action", word(key));
  button.type = "button";
  button.dataset.text = key;
  button.addEventListener("click", () => act(button));
  item.append(button);
}

function addCopy(item, body) {
  if (!body.textContent || !navigator.clipboard) return;
  addAction(item, "copy", async (button) => {
    await navigator.clipboard.writeText(body.textContent);
    button.textContent = word("copied");
    setTimeout(() => { button.textContent = word("copy"); }, 1500);
  });
}

// One answer ---------------------------------------------------------------------------------------------------

function ask(text) {
  text = text.trim();
  if (!text || state.abort) return;
  state.messages.push({ role: "user", content: text });
  addMessage("user", text);
  $("input").value = "";
  resize();
  answer();
}

async function answer() {
  const messages = state.messages;
  const { item, body } = addMessage("assistant", "");
  const abort = new AbortController();
  state.abort = abort;
  busy(true);
  item.classList.add("waiting");
  const said = { text: "", finish: null };
  let failure = null;
  try {
    for await (const piece of replies(item, abort.signal)) {
      const follow = nearBottom();
      if (piece.text) item.classList.remove("waiting");
      said.text += piece.text;
      said.finish = piece.finish ?? said.finish;
      body.append(piece.text);
      if (follow) toBottom();
    }
  } catch (error) {
    failure = error;
  }
  item.classList.remove("waiting");
  if (state.messages !== messages) return; // a new conversation began meanwhile
  state.abort = null;
  busy(false);
  // The history holds whole rounds only: a question without an answer leaves it.
  const question = said.text ? null : messages.pop();
  if (said.text) messages.push({ role: "assistant", content: said.text });
  addCopy(item, body);
  if (failure) explain(item, failure, question);
  else if (said.finish === "length") addNote(item, "full");
  toBottom();
}

// Says why an answer broke off; `question` is what left the history with it, if it left.
function explain(item, failure, question) {
  if (failure.name === "AbortError") {
    addNote(item, "stopped");
    return;
  }
  if (failure instanceof TypeError) addNote(item, "offline").classList.add("bad");
  else addNote(item, "failed", failure.message).classList.add("bad");
  if (item !== $("messages").lastElementChild) return;
  addAction(item, "retry", () => {
    if (state.abort || item !== $("messages").lastElementChild) return;
    if (question) state.messages.push(question);
    else state.messages.pop();
    item.remove();
    answer();
  });
}

// Asks with as many of the messages as leave a quarter of the context to the answer, leaving out whole rounds from the
// front, and yields {text, finish}.
async function* replies(item, signal) {
  for (let renamed = false; ;) {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(requestBody()),
      signal,
    });
    if (response.ok) return yield* events(response);
    const error = (await response.json().catch(() => ({}))).error ?? {};
    if (error.code === "model_not_found" && !renamed) { // the server was started anew with another one
      renamed = true;
      await findModel();
      continue;
    }
    const tooLong = error.code === "context_length_exceeded" && state.messages.length - state.dropped > 1;
    if (!tooLong) throw new Error(error.message ?? `HTTP ${response.status}`);
    if (!item.querySelector(".note")) addNote(item, "shortened");
    state.dropped += 2;
  }
}

function requestBody() {
  const system = $("system").value.trim();
  const kept = state.messages.slice(state.dropped);
  const limit = kept.length > 1 && state.room ? { max_tokens: Math.max(1, Math.floor(state.room / 4)) } : {};
  return {
    model: state.model,
    messages: system ? [{ role: "system", content: system }, ...kept] : kept,
    temperature: Number($("temperature").value),
    stream: true,
    ...limit, // a question alone may use all that is left
  };
}

// The server-sent events of a response. An event can be split anywhere, even inside a character.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      if (choice) yield { text: choice.delta.content ?? "", finish: choice.finish_reason };
    }
  }
}

// Controls -----------------------------------------------------------------------------------------------------

function busy(yes) {
  $("send").hidden = yes;
  $("stop").hidden = !yes;
}

function stop() {
  state.abort?.abort();
}

function resize() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  $("send").disabled = !input.value.trim();
}

function newChat() {
  stop();
  state.abort = null;
  state.messages = [];
  state.dropped = 0;
  $("messages").replaceChildren();
  $("welcome").hidden = false;
  busy(false);
  $("input").focus();
}

async function findModel() {
  try {
    const models = await (await fetch("v1/models")).json();
    state.model = models.data[0].id;
    state.room = models.data[0].max_model_len;
    $("model").textContent = state.model;
    document.title = `${state.model} · Headwater`;
    state.examples = await (await fetch("examples.json")).json();
    showExamples();
  } catch {
    $("model").textContent = word("offline");
  }
}

function start() {
  $("system").value = stored("system", "");
  $("temperature").value = stored("temperature", "0.3");
  $("theme").value = stored("theme", "auto");
  showWords();
  showTheme();
  showTemperature();

  $("composer").addEventListener("submit", (event) => { event.preventDefault(); ask($("input").value); });
  $("input").addEventListener("input", resize);
  $("input").addEventListener("keydown", (event) => {
    // While an input method composes, Enter chooses a candidate and sends nothing (229: Safari's way to say so).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    ask($("input").value);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !$("settings").open) stop(); });
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", newChat);
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  $("settings").addEventListener("click", (event) => { if (event.target === $("settings")) $("settings").close(); });
  $("system").addEventListener("input", () => store("system", $("system").value));
  $("temperature").addEventListener("input", () => { store("temperature", $("temperature").value); showTemperature(); });
  $("theme").addEventListener("change", () => { store("theme", $("theme").value); showTheme(); });
  $("language").addEventListener("click", () => {
    state.language = state.language === "zh" ? "en" : "zh";
    store("language", state.language);
    showWords();
  });
  resize();
  findModel();
  $("input").focus();
}

start();
