// Keys, and the list that tells them.

import { $, make } from "./dom.js";
import { stop, newChat } from "./chat.js";
import { openSettings } from "./settings.js";
import { findChat } from "./sidebar.js";
import { translate } from "./words.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const HELD = MAC ? "⌘" : "Ctrl";
const LISTED = [["keySend", "Enter"], ["keyLine", "Shift+Enter"], ["keyStop", "Esc"], ["keyEdit", "↑"], ["keyFocus", "/"],
  ["keyFind", `${HELD}+K`], ["keyNew", `${HELD}+Shift+O`], ["keySettings", `${HELD}+,`], ["keyHelp", "?"]];

export function startShortcuts() {
  for (const [id, keys] of [["menu", "K"], ["new", "Shift+O"], ["open-settings", ","]]) {
    $(id).setAttribute("aria-keyshortcuts", `${MAC ? "Meta" : "Control"}+${keys}`);
  }
  $("open-help").setAttribute("aria-keyshortcuts", "?");
  $("keys").replaceChildren(...LISTED.flatMap(([key, keys]) => {
    const means = make("dd");
    means.dataset.text = key;
    const term = make("dt");
    term.append(...keys.split("+").map((one) => make("kbd", "", one)));
    return [term, means];
  }));
  translate($("keys"));
  $("open-help").addEventListener("click", openHelp);
  document.addEventListener("keydown", pressed);
}

function openHelp() {
  if (!$("help").open) $("help").showModal();
}

function pressed(event) {
  if (event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && !document.querySelector(":popover-open")) stop();
  const act = event.ctrlKey || event.metaKey ? held(event) : alone(event);
  if (!act) return;
  event.preventDefault();
  act();
}

function held(event) {
  if (event.altKey) return null;
  const key = event.key.toLowerCase();
  if (event.shiftKey) return key === "o" ? newChat : null;
  return { k: findChat, ",": openSettings }[key] ?? null;
}

function alone(event) {
  if (event.target.matches("input, textarea, select")) return null;
  return { "/": () => $("input").focus(), "?": openHelp }[event.key] ?? null;
}
