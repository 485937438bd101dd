// Program text, coloured by highlight.js where its language is told and known.

import { make, icon } from "./dom.js";
import { translate } from "./words.js";

const MOST_COLOURED = 30_000; // characters; longer texts stay plain, while they grow and after

// A block of code with its language and a button that copies it.
export function codeBlock(text, language) {
  const figure = make("figure", "code");
  const caption = make("figcaption");
  const copy = make("button", "quiet copy-code");
  copy.type = "button";
  copy.dataset.title = "copy";
  copy.append(icon("copy"));
  caption.append(make("span", "", language), translate(copy));
  const code = make("code");
  colour(code, text, language);
  const pre = make("pre");
  pre.append(code);
  figure.append(caption, pre);
  return figure;
}

// The highlighter's tree is built as elements: its HTML is never parsed.
function colour(code, text, language) {
  const { hljs } = globalThis;
  if (!language || !hljs.getLanguage(language) || text.length > MOST_COLOURED) {
    code.textContent = text;
    return;
  }
  const { _emitter: emitter } = hljs.highlight(text, { language, ignoreIllegals: true });
  code.append(...emitter.rootNode.children.map(element));
}

function element(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const span = make("span", node.scope ? classes(node.scope) : "");
  span.append(...node.children.map(element));
  return span;
}

// "title.function" is hljs-title function_, as its style sheets have it.
function classes(scope) {
  if (scope.startsWith("language:")) return scope.replace("language:", "language-");
  const [first, ...rest] = scope.split(".");
  return [`hljs-${first}`, ...rest.map((part, depth) => part + "_".repeat(depth + 1))].join(" ");
}
