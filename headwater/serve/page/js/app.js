// The page's beginning: everything is wired here.

import { ask, busy, current, newChat, openChat, removed, startChat, stop } from "./chat.js";
import { $, copyText, sends } from "./dom.js";
import { exportJson, exportMarkdown } from "./export.js";
import { copied, startMessages, toEnd } from "./messages.js";
import { choose, connect, model, showOffered } from "./server.js";
import { startSettings } from "./settings.js";
import { startShortcuts } from "./shortcuts.js";
import { showChats, startSidebar } from "./sidebar.js";
import { write } from "./store.js";
import { otherLanguage, locale, translate, word } from "./words.js";

const chats = { current: () => current().id, open: openChat, removed };
const askProposed = (text) => { if (ask(text)) $("input").focus(); };

function showWords() {
  document.documentElement.lang = locale();
  translate(document.body);
  $("language").textContent = word("otherLanguage");
  $("language").lang = locale() === "en" ? "zh-CN" : "en";
  showOffered(askProposed);
  showChats(chats);
}

function send() {
  if (!ask($("input").value)) return;
  $("input").value = "";
  resize();
}

function resize() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  $("send").disabled = !input.value.trim();
}

function startComposer() {
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("input").addEventListener("input", resize);
  $("input").addEventListener("keydown", (event) => {
    if (sends(event)) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && !$("input").value && !event.isComposing && !busy()) {
      $("messages").querySelector("li.user:nth-last-child(-n+2) .edit")?.click();
    }
  });
  $("stop").addEventListener("click", stop);
  $("to-end").addEventListener("click", toEnd);
  new IntersectionObserver(([end]) => { $("to-end").hidden = end.isIntersecting; }, { root: $("scroller"), rootMargin: "80px" })
    .observe($("end"));
}

// Keyboards of phones that cover the page instead of shrinking it.
function startViewport() {
  const fit = () => document.documentElement.style.setProperty("--height", `${visualViewport.height}px`);
  visualViewport?.addEventListener("resize", fit);
}

function start() {
  startSettings();
  startSidebar(chats);
  startShortcuts();
  startChat(() => showChats(chats));
  startMessages();
  startComposer();
  startViewport();
  showWords();
  $("new").addEventListener("click", newChat);
  $("models").addEventListener("change", () => {
    choose($("models").value);
    write("model", model());
    current().dropped = 0; // another model may hold more
  });
  $("language").addEventListener("click", () => { otherLanguage(); showWords(); });
  $("export-markdown").addEventListener("click", () => exportMarkdown(current()));
  $("export-json").addEventListener("click", () => exportJson(current()));
  $("messages").addEventListener("click", async (event) => {
    const button = event.target.closest(".copy-code");
    if (!button) return;
    await copyText(button.closest("figure").querySelector("code").textContent);
    copied(button);
  });
  resize();
  connect(askProposed);
  $("input").focus();
}

start();
