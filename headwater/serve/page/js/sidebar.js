// The conversations this browser keeps: beside the page where it is wide, over it on a phone.

import { $, icon, make } from "./dom.js";
import { conversations, forget, read, write } from "./store.js";
import { twice } from "./settings.js";
import { locale, translate, word } from "./words.js";

const wide = matchMedia("(min-width: 60rem)");

// `acts` has current() (an id), open(id) and removed(id).
export function startSidebar(acts) {
  document.body.classList.toggle("no-sidebar", read("sidebar", "shown") === "hidden");
  $("menu").addEventListener("click", toggle);
  $("close-sidebar").addEventListener("click", toggle);
  $("find").addEventListener("input", () => showChats(acts));
  wide.addEventListener("change", () => { if ($("sidebar").matches(":popover-open")) $("sidebar").hidePopover(); });
  addEventListener("storage", () => showChats(acts)); // another open page has changed them
  twice($("remove-all"), "removeAllSure", () => conversations().forEach((chat) => remove(chat.id, acts)));
  showChats(acts);
}

function toggle() {
  if (!wide.matches) return $("sidebar").togglePopover();
  const hidden = document.body.classList.toggle("no-sidebar");
  return write("sidebar", hidden ? "hidden" : "shown");
}

export function findChat() {
  const hidden = wide.matches ? document.body.classList.contains("no-sidebar") : !$("sidebar").matches(":popover-open");
  if (hidden) toggle();
  $("find").focus();
  $("find").select();
}

export function showChats(acts) {
  const sought = $("find").value.trim().toLowerCase();
  const all = conversations();
  const found = all.filter((chat) => holds(chat, sought));
  $("chats").replaceChildren(...found.map((chat) => entry(chat, acts)));
  $("no-chats").hidden = found.length > 0;
  $("no-chats").textContent = word(all.length ? "noneFound" : "noChats");
}

const holds = (chat, sought) => !sought || chat.title.toLowerCase().includes(sought)
  || chat.messages.some((message) => message.content.toLowerCase().includes(sought));

function entry(chat, acts) {
  const item = make("li");
  const open = make("button", "chat");
  open.type = "button";
  open.append(make("span", "title", chat.title), make("time", "", when(chat.updated)));
  if (chat.id === acts.current()) open.setAttribute("aria-current", "true");
  open.addEventListener("click", () => {
    if ($("sidebar").matches(":popover-open")) $("sidebar").hidePopover();
    acts.open(chat.id);
  });
  const away = make("button", "quiet");
  away.type = "button";
  away.dataset.title = "remove";
  away.append(icon("remove"));
  away.addEventListener("click", () => sure(item, away, () => remove(chat.id, acts)));
  item.append(open, translate(away));
  return item;
}

// Asks in place of the button.
function sure(item, away, act) {
  const question = make("button", "plain bad", word("removeSure"));
  question.type = "button";
  question.addEventListener("click", act);
  question.addEventListener("blur", () => question.replaceWith(away));
  away.replaceWith(question);
  question.focus();
}

function remove(id, acts) {
  forget(id);
  acts.removed(id);
  showChats(acts);
}

function when(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(locale(), today ? { timeStyle: "short" } : { dateStyle: "medium" });
}
