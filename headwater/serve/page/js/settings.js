// The drawer of settings. Each is kept as it is changed; empty or at its end, a setting is not sent.

import { $ } from "./dom.js";
import { read, write } from "./store.js";
import { word } from "./words.js";

const DEFAULTS = { system: "", temperature: "0.3", top_p: "1", max_tokens: "", seed: "", theme: "auto" };

export const systemPrompt = () => $("system").value.trim();

// What a request has beside its messages.
export function sampling() {
  const asked = { temperature: Number($("temperature").value) };
  if ($("top_p").value !== "1") asked.top_p = Number($("top_p").value);
  for (const name of ["max_tokens", "seed"]) {
    const field = $(name);
    if (field.value !== "" && field.checkValidity()) asked[name] = Number(field.value);
  }
  return asked;
}

export function startSettings() {
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    $(name).value = read(name, fallback);
    $(name).addEventListener("input", () => { write(name, $(name).value); show(); });
  }
  $("open-settings").addEventListener("click", openSettings);
  for (const dialog of [$("settings"), $("help")]) { // a click beside it closes it
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  show();
}

export function openSettings() {
  if (!$("settings").open) $("settings").showModal();
}

function show() {
  document.documentElement.dataset.theme = $("theme").value;
  $("temperature-value").textContent = Number($("temperature").value).toFixed(1);
  $("top_p-value").textContent = Number($("top_p").value).toFixed(2);
}

// A button that acts at its second click: the first asks.
export function twice(button, question, act) {
  const plain = button.dataset.text;
  const reset = () => { delete button.dataset.sure; button.dataset.text = plain; button.textContent = word(plain); };
  button.addEventListener("blur", reset);
  button.addEventListener("click", () => {
    if (button.dataset.sure) {
      reset();
      act();
      return;
    }
    button.dataset.sure = "1";
    button.dataset.text = question;
    button.textContent = word(question);
  });
}
