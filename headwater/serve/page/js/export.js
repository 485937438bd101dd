// A conversation as a file: everything as JSON, or to be read as Markdown.

import { download } from "./dom.js";
import { word } from "./words.js";

export function exportJson(chat) {
  download(`${fileName(chat)}.json`, "application/json", `${JSON.stringify(chat, null, 2)}\n`);
}

export function exportMarkdown(chat) {
  const parts = [`# ${chat.title}`, ...chat.messages.map(message)];
  download(`${fileName(chat)}.md`, "text/markdown", `${parts.join("\n\n")}\n`);
}

const fileName = (chat) => chat.title.replace(/[\p{C}\\/:*?"<>|.\s]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "chat";

function message({ role, content, agent = [] }) {
  const heading = `## ${word(role === "user" ? "you" : "assistant")}`;
  let shown = 0;
  const parts = agent.flatMap((event) => {
    const before = content.slice(shown, event.at).trim();
    shown = event.at;
    return [before, done(event)];
  });
  return [heading, ...parts, content.slice(shown).trim()].filter(Boolean).join("\n\n");
}

function done(event) {
  if (event.type === "call") return `${word("called")} \`${event.name}\`:\n\n${fenced(event.arguments)}`;
  if (event.type !== "observation") return "";
  const sources = event.sources.map(([address, title]) => `- ${title}: <${address}>`).join("\n");
  const pictures = event.images.filter(Boolean).map((picture) => `![${word("picture")}](${picture})`);
  return [`${word("gave")}:`, fenced(event.text), ...pictures, sources].filter(Boolean).join("\n\n");
}

// Fences longer than any inside.
function fenced(text) {
  const fence = "`".repeat(Math.max(3, ...(text.match(/`+/g) ?? []).map((run) => run.length + 1)));
  return `${fence}\n${text}\n${fence}`;
}
