// The conversation that is open: asking, answering, stopping, asking again.

import { ApiError, complete } from "./api.js";
import { $ } from "./dom.js";
import { tidyEvent } from "./event.js";
import { Answer, clear, showQuestion, toEnd } from "./messages.js";
import { connect, met, model, room, tools } from "./server.js";
import { sampling, systemPrompt } from "./settings.js";
import { conversation, keep } from "./store.js";
import { word } from "./words.js";

const LONGEST_TITLE = 60;
const MOST_SAID = 2000; // characters of an answer that a screen reader is given at once
const state = { chat: fresh(), abort: null, changed: () => {} };

// messages: {role, content} as the API takes them; an answer also has what tools did (agent), how it ended and who gave it.
function fresh() {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: "", updated: 0, dropped: 0, messages: [] };
}

export const current = () => state.chat;
export const busy = () => state.abort !== null;

// `changed` is called when the list of conversations is another.
export function startChat(changed) {
  state.changed = changed;
  addEventListener("pagehide", () => { if (busy()) keep(state.chat); });
}

export function newChat() {
  show(fresh());
  $("input").focus();
}

export function openChat(id) {
  const kept = conversation(id);
  if (kept && id !== state.chat.id) show(kept);
}

export function removed(id) {
  if (id !== state.chat.id) return;
  state.chat.gone = true; // an answer that is still coming brings it back no more
  newChat();
}

function show(chat) {
  stop();
  setBusy(null);
  state.chat = chat;
  clear();
  for (const [index, message] of chat.messages.entries()) {
    if (message.role === "user") showQuestion(message.content, (text) => editQuestion(index, text));
    else new Answer().replay(message, answerAgain);
  }
  document.title = chat.title ? `${chat.title} · Headwater` : "Headwater";
  state.changed();
  toEnd();
}

// Whether the text was taken.
export function ask(text) {
  text = text.trim();
  if (!text || busy()) return false;
  const { chat } = state;
  const index = chat.messages.length;
  if (index === 0) chat.title = [...text.replace(/\s+/g, " ")].slice(0, LONGEST_TITLE).join("");
  chat.messages.push({ role: "user", content: text });
  document.title = `${chat.title} · Headwater`;
  showQuestion(text, (changed) => editQuestion(index, changed));
  toEnd();
  answer();
  return true;
}

export function stop() {
  state.abort?.abort();
}

function editQuestion(index, text) {
  const { chat } = state;
  const kept = { ...chat, messages: chat.messages.slice(0, index), dropped: 0 };
  show(kept);
  ask(text);
}

function answerAgain() {
  const { chat } = state;
  if (busy() || chat.messages.at(-1)?.role !== "assistant") return;
  chat.messages.pop();
  $("messages").lastElementChild.remove();
  answer();
}

async function answer() {
  const { chat } = state;
  const message = { role: "assistant", content: "", agent: [], model: model() };
  const question = chat.messages.length;
  chat.messages.push(message);
  save(chat);
  const view = new Answer();
  const abort = new AbortController();
  setBusy(abort);
  $("status").textContent = word("answering");
  try {
    for await (const piece of replies(chat, question, view, abort.signal)) take(piece, message, view);
  } catch (error) {
    Object.assign(message, ending(error));
  }
  message.model = model();
  view.finish(message, answerAgain);
  if (!save(chat)) view.note("tooLarge");
  if (state.abort !== abort) return; // another conversation is open meanwhile
  setBusy(null);
  $("status").textContent = message.content ? word("answered") + message.content.slice(0, MOST_SAID) : word(message.ended ?? "answered");
}

function take(piece, message, view) {
  const event = tidyEvent(piece.agent, message.content.length);
  if (event) {
    message.agent.push(event);
    view.event(event);
  }
  if (piece.text) {
    message.content += piece.text;
    view.text(piece.text);
  }
  if (piece.finish === "length") message.ended = "length";
}

function ending(error) {
  if (error.name === "AbortError") return { ended: "stopped" };
  return error instanceof TypeError ? { ended: "offline" } : { ended: "failed", detail: error.message };
}

// Whether the browser had room for it.
function save(chat) {
  if (chat.gone) return true;
  chat.updated = Date.now();
  const kept = keep(chat);
  state.changed();
  return kept;
}

function setBusy(abort) {
  state.abort = abort;
  $("send").hidden = abort !== null;
  $("stop").hidden = abort === null;
}

// Asks with as many of the messages as leave a quarter of the context to the answer, leaving out whole rounds from the
// front, and yields {text, finish, agent}.
async function* replies(chat, question, view, signal) {
  await Promise.race([met(), stopped(signal)]); // a question can be quicker than the list of models
  const messages = history(chat.messages.slice(0, question));
  for (let renamed = false; ;) {
    try {
      yield* complete(body(chat, messages.slice(chat.dropped)), signal);
      return;
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "";
      if (code === "model_not_found" && !renamed) { // the server was started anew with another one
        renamed = true;
        await connect(ask);
        continue;
      }
      if (code !== "context_length_exceeded" || messages.length - chat.dropped < 2) throw error;
      if (!view.item.querySelector(".note")) view.note("shortened");
      chat.dropped += 2;
    }
  }
}

const stopped = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));

// Whole rounds and the question: what had no answer is left out.
function history(messages) {
  const kept = [];
  for (const { role, content } of messages) {
    if (kept.at(-1)?.role === "user" && (role === "user" || !content)) kept.pop();
    if (content) kept.push({ role, content });
  }
  return kept;
}

function body(chat, messages) {
  const system = systemPrompt();
  const limit = messages.length > 1 && room() ? { max_tokens: Math.max(1, Math.floor(room() / 4)) } : {};
  const offered = tools();
  return {
    model: model(),
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    stream: true,
    ...limit, // a question alone may use all that is left
    ...sampling(),
    ...(offered.length ? { tools: offered, session: chat.id } : {}), // variables stay from question to question
  };
}
