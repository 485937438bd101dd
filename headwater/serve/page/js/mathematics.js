// Mathematics: $..$, \(..\), $$..$$, \[..\] and bare environments become formulas, drawn by KaTeX.

const MOST_TEX = 10_000; // characters of one formula; a longer one stays as it was written
const MOST_CACHED = 200;
const INLINE = [["\\(", "\\)"], ["\\[", "\\]"], ["$$", "$$"], ["$", "$"]];
const BLOCK = [["$$", "$$"], ["\\[", "\\]"]];
const trees = new Map(); // formulas of the latest renderings, so that a growing paragraph does not draw them anew

// Where a text still grows (env.live), a formula that has begun in its last part is shown as pending.
export function useMathematics(markdown) {
  markdown.inline.ruler.before("escape", "math_inline", inline);
  markdown.block.ruler.before("fence", "math_block", block, { alt: ["paragraph", "reference", "blockquote", "list"] });
  markdown.core.ruler.before("inline", "math_growing", ({ tokens, env }) => {
    if (env.live) env.growing = tokens.findLast((token) => token.nesting >= 0)?.children; // null but of a text
  });
  const escape = markdown.utils.escapeHtml;
  const place = (tokens, index) => {
    const { content, block: own, meta } = tokens[index];
    const tag = own ? "div" : "span";
    const classes = `math${meta.display ? " display" : ""}${meta.pending ? " pending" : ""}`;
    return `<${tag} class="${classes}">${escape(content)}</${tag}>`;
  };
  markdown.renderer.rules.math_inline = place;
  markdown.renderer.rules.math_block = place;
}

function inline(state, silent) {
  const rest = state.src.slice(state.pos, state.posMax);
  const pair = INLINE.find(([open]) => rest.startsWith(open));
  if (!pair) return false;
  const [open, close] = pair;
  const end = closing(rest, open.length, close);
  const pending = end < 0;
  if (pending && !(state.env.live && state.tokens === state.env.growing && looksLikeTex(open, rest.slice(open.length)))) return false;
  const content = pending ? rest.slice(open.length) : rest.slice(open.length, end);
  if (!content.trim() || (open === "$" && !pending && !isDollarPair(content, rest[end + 1]))) return false;
  if (!silent) add(state, "math_inline", content, open === "$$" || open === "\\[", pending);
  state.pos += pending ? rest.length : end + close.length;
  return true;
}

// Where `close` begins, a backslash before it left out; -1 where it has not come.
function closing(text, from, close) {
  let end = text.indexOf(close, from);
  while (close[0] === "$" && end > 0 && text[end - 1] === "\\") end = text.indexOf(close, end + 1);
  return end;
}

// Pandoc's rule, which leaves "$5 and $6" alone.
const isDollarPair = (content, next) => !/^\s|\s$/.test(content) && !/\d/.test(next ?? "");
const looksLikeTex = (open, rest) => open !== "$" || /^[^\s$]*[\\^_{]/.test(rest);

function block(state, startLine, endLine, silent) {
  const first = line(state, startLine);
  const environment = /^\\begin\{([a-z]+\*?)\}/.exec(first);
  const pair = environment ? ["", `\\end{${environment[1]}}`] : BLOCK.find(([open]) => first.startsWith(open));
  if (!pair) return false;
  const [open, close] = pair;
  const lines = [first.slice(open.length)];
  let last = startLine;
  while (!lines.at(-1).includes(close)) {
    last += 1;
    const ended = last >= endLine || state.sCount[last] < state.blkIndent || !line(state, last);
    if (ended && !(state.env.live && last >= endLine)) return false;
    if (ended) break;
    lines.push(line(state, last));
  }
  const text = lines.join("\n").trimEnd();
  const pending = last >= endLine;
  if (!pending && text.indexOf(close) !== text.length - close.length) return false; // something follows on its line
  if (silent) return true;
  const content = pending || environment ? text : text.slice(0, -close.length);
  const token = add(state, "math_block", content, true, pending);
  token.block = true;
  token.map = [startLine, Math.min(last + 1, endLine)];
  state.line = token.map[1];
  return true;
}

const line = (state, number) =>
  state.src.slice(state.bMarks[number] + state.tShift[number], state.eMarks[number]).trimEnd();

function add(state, type, content, display, pending) {
  const token = state.push(type, "math", 0);
  token.content = content.trim();
  token.meta = { display, pending };
  return token;
}

// Draws what the rules above left a place for. KaTeX makes elements, no markup, so that nothing in a formula can become
// any; what it would set as a style attribute is set through the style object, which the content security policy allows.
export function typeset(place) {
  const tex = place.textContent;
  if (place.classList.contains("pending") || tex.length > MOST_TEX) return;
  try {
    const node = tree(tex, place.classList.contains("display")).toNode();
    for (const styled of node.querySelectorAll("[data-style]")) {
      styled.style.cssText = styled.dataset.style;
      delete styled.dataset.style;
    }
    place.replaceChildren(node);
  } catch (error) {
    place.classList.add("faulty");
    place.title = error.message;
  }
}

function tree(tex, displayMode) {
  const key = `${displayMode} ${tex}`;
  if (!trees.has(key)) {
    const options = { displayMode, throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 500 };
    const made = globalThis.katex.__renderToDomTree(tex, options);
    withoutStyleAttributes(made);
    if (trees.size >= MOST_CACHED) trees.delete(trees.keys().next().value);
    trees.set(key, made);
  }
  return trees.get(key);
}

function withoutStyleAttributes(node) {
  if (node.attributes?.style) {
    node.attributes["data-style"] = node.attributes.style;
    delete node.attributes.style;
  }
  node.children?.forEach(withoutStyleAttributes);
}
