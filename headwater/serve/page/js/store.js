// What the browser keeps: settings one by one, and conversations, each under a key of its own so that two open pages do
// not overwrite each other. All of it is bounded.

import { tidyEvent } from "./event.js";

const PREFIX = "headwater.";
const CHAT = `${PREFIX}chat.`;
const MOST_CHATS = 50;
const MOST_CHARACTERS = 4_000_000; // browsers keep about five million for a site
const MOST_PICTURES = 1_000_000; // characters of pictures in one conversation

const local = available();

// A browser that keeps nothing (or a full one) still chats: what would be kept is kept until the page closes.
function available() {
  try {
    localStorage.setItem(`${PREFIX}probe`, "1");
    localStorage.removeItem(`${PREFIX}probe`);
    return localStorage;
  } catch {
    const held = new Map();
    return {
      getItem: (key) => held.get(key) ?? null,
      setItem: (key, value) => held.set(key, value),
      removeItem: (key) => held.delete(key),
      key: (index) => [...held.keys()][index] ?? null,
      get length() { return held.size; },
    };
  }
}

export const read = (name, fallback) => local.getItem(PREFIX + name) ?? fallback;

export function write(name, value) {
  put(PREFIX + name, value);
}

// The conversations, latest first. A value that is none (an older page's, a damaged one) is left out.
export function conversations() {
  const found = [];
  for (let index = 0; index < local.length; index += 1) {
    const key = local.key(index);
    if (key?.startsWith(CHAT)) found.push(parsed(local.getItem(key)));
  }
  return found.filter((chat) => chat !== null).sort((a, b) => b.updated - a.updated);
}

export function conversation(id) {
  return parsed(local.getItem(CHAT + id));
}

function parsed(text) {
  try {
    const chat = JSON.parse(text);
    const whole = typeof chat.id === "string" && typeof chat.title === "string" && Array.isArray(chat.messages)
      && chat.messages.every((message) => ["user", "assistant"].includes(message.role)
        && typeof message.content === "string");
    return whole ? { ...chat, messages: chat.messages.map(tidyMessage) } : null;
  } catch {
    return null;
  }
}

function tidyMessage(message) {
  if (!Array.isArray(message.agent)) return { ...message, agent: [] };
  const at = (event) => (Number.isInteger(event?.at) ? event.at : 0);
  return { ...message, agent: message.agent.map((event) => tidyEvent(event, at(event))).filter(Boolean) };
}

// Whether there was room for it.
export function keep(chat) {
  const text = JSON.stringify(withoutLargePictures(chat));
  if (text.length > MOST_CHARACTERS) return false; // it would take the place of all others
  put(CHAT + chat.id, text);
  const all = conversations();
  let size = 0;
  all.forEach((other, index) => {
    size += local.getItem(CHAT + other.id)?.length ?? 0;
    if (index > 0 && (index >= MOST_CHATS || size > MOST_CHARACTERS)) forget(other.id);
  });
  return true;
}

export function forget(id) {
  local.removeItem(CHAT + id);
}

// Room is made by leaving out the conversations that were not touched for longest.
function put(key, value) {
  for (;;) {
    try {
      local.setItem(key, value);
      return;
    } catch {
      const oldest = conversations().filter((chat) => CHAT + chat.id !== key).at(-1);
      if (!oldest) return;
      forget(oldest.id);
    }
  }
}

// The latest pictures stay; one that is left out becomes an empty text, which the page shows as a note.
function withoutLargePictures(chat) {
  let room = MOST_PICTURES;
  const kept = (picture) => {
    const fits = picture.length <= room;
    if (fits) room -= picture.length;
    return fits ? picture : "";
  };
  const messages = chat.messages.toReversed().map((message) => !message.agent ? message : {
    ...message,
    agent: message.agent.toReversed().map((event) => event.images ? { ...event, images: event.images.toReversed().map(kept).reverse() } : event)
      .reverse(),
  });
  return { ...chat, messages: messages.reverse() };
}
