// Markdown to elements: markdown-it writes HTML in which nothing of the text is markup, DOMPurify lets a short list of
// elements through, and formulas, code, links and tables are finished as elements.

import { make } from "./dom.js";
import { codeBlock } from "./code.js";
import { useCjkEmphasis } from "./emphasis.js";
import { typeset, useMathematics } from "./mathematics.js";

const WEB = /^(?:https?:|mailto:)/i;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i; // no SVG: it is a document of its own
const LONGEST_ADDRESS = 60;
const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "hr", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol",
    "li", "table", "thead", "tbody", "tr", "th", "td", "a", "img", "span", "div"],
  ALLOWED_ATTR: ["href", "src", "alt", "start", "class"],
  ADD_URI_SAFE_ATTR: ["start"], // a number, which the expression below would refuse
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: WEB, // data: pictures are let through beside it, by DOMPurify's own rule for them
  RETURN_DOM_FRAGMENT: true,
};

export const isPicture = (address) => typeof address === "string" && PICTURE.test(address);

const markdown = configured();

function configured() {
  // No underlined headings: while an answer grows, a list's first dash would turn the line above it into one.
  const made = globalThis.markdownit({ html: false, linkify: true, breaks: true }).disable("lheading");
  made.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  made.validateLink = (address) => WEB.test(address) || PICTURE.test(address);
  useCjkEmphasis(made);
  useMathematics(made);
  const { rules } = made.renderer;
  const escape = made.utils.escapeHtml;
  rules.fence = (tokens, index) =>
    `<pre><code class="${escape(tokens[index].info.trim().split(/[\s{,:]/)[0])}">${escape(tokens[index].content)}</code></pre>`;
  rules.code_block = (tokens, index) => `<pre><code>${escape(tokens[index].content)}</code></pre>`;
  // A picture from elsewhere would tell its server what the chat is about: it becomes a link.
  rules.image = (tokens, index) => {
    const address = tokens[index].attrGet("src");
    const name = escape(tokens[index].content);
    return PICTURE.test(address) ? `<img src="${escape(address)}" alt="${name}">` : `<a href="${escape(address)}">${name}</a>`;
  };
  for (const rule of ["heading_open", "heading_close"]) {
    rules[rule] = (tokens, index) => // the page's own headings are the first two
      `<${tokens[index].nesting < 0 ? "/" : ""}h${Math.min(6, Number(tokens[index].tag[1]) + 2)}>`;
  }
  for (const rule of ["th_open", "td_open"]) {
    rules[rule] = (tokens, index) => {
      const side = /(left|center|right)/.exec(tokens[index].attrGet("style") ?? "")?.[0];
      return `<${tokens[index].tag}${side ? ` class="${side}"` : ""}>`;
    };
  }
  return made;
}

// `env` carries what links refer to from one part of a text to the next; `env.live` says that the text still grows.
export const parse = (text, env) => markdown.parse(text, env);

// A DocumentFragment with one element for each block of the tokens.
export function elements(tokens, env) {
  const fragment = globalThis.DOMPurify.sanitize(markdown.renderer.render(tokens, markdown.options, env), ALLOWED);
  for (const node of [...fragment.childNodes]) if (node.nodeType !== Node.ELEMENT_NODE) node.remove();
  fragment.querySelectorAll("span.math, div.math").forEach(typeset);
  fragment.querySelectorAll("pre").forEach((pre) => {
    const code = pre.firstElementChild;
    pre.replaceWith(codeBlock(code.textContent, code.className));
  });
  fragment.querySelectorAll("a").forEach((link) => finishLink(link));
  fragment.querySelectorAll("img").forEach((image) => { if (!isPicture(image.getAttribute("src"))) image.remove(); });
  fragment.querySelectorAll("table").forEach((table) => {
    const frame = make("div", "table");
    table.replaceWith(frame);
    frame.append(table);
  });
  return fragment;
}

// A link to `address` that says where it leads; plain text where that is no address of the web.
export function link(address, text) {
  const made = make("a", "", text);
  made.setAttribute("href", address);
  const holder = make("span");
  holder.append(made);
  finishLink(made);
  return holder;
}

function finishLink(link) {
  const address = link.getAttribute("href") ?? "";
  if (!WEB.test(address) || !URL.canParse(address)) {
    link.replaceWith(...link.childNodes);
    return;
  }
  const url = new URL(address);
  const shown = link.textContent;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  link.title = url.href;
  if (!shown.trim()) link.textContent = short(url);
  else if (shown !== url.href && `${shown}/` !== url.href) link.after(" ", make("bdi", "address", `(${short(url)})`));
}

function short(url) {
  const text = url.protocol === "mailto:" ? url.pathname : url.host + (url.pathname === "/" ? "" : url.pathname) + url.search;
  return text.length > LONGEST_ADDRESS ? `${text.slice(0, LONGEST_ADDRESS)}…` : text;
}
