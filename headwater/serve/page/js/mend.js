// A half-finished text made whole for showing: marks that have no partner yet get one, and those that could still
// become anything wait. So bold text is bold from its first letter, and nothing flickers while an answer grows.

const FENCE = /^\s*(?:>\s?)*(?:[-*+]\s+|\d+[.)]\s+)?(`{3,}|~{3,})/;
const ONLY_MARKS = /^(?:[-*+=#_~`|:$\\[(!>\s]+|[\s>]*\d{1,9}[.)]?\s*)$/;
const BEGINS = /^\s*(?:[-*+]\s|\d{1,9}[.)]\s|#{1,6}\s|>|\|)/; // emphasis does not reach beyond such a line

export function mend(text) {
  const lines = text.split("\n");
  const fence = openFence(lines);
  if (fence) { // inside code nothing needs a partner; its first line waits until its language is complete
    return fence.line === lines.length - 1 || /^\s*[`~]{1,}$/.test(lines.at(-1)) ? dropLast(lines) : text;
  }
  if (ONLY_MARKS.test(lines.at(-1)) && lines.at(-1).trim()) return mend(dropLast(lines));
  const end = /\s*$/.exec(text)[0];
  if (/\n\s*\n/.test(end)) return text; // a paragraph has ended and none has begun
  const whole = text.slice(0, text.length - end.length).split("\n");
  const paragraph = whole.findLastIndex((line) => !line.trim()) + 1;
  // A table is known by its second line.
  if (/^\s*\|/.test(whole[paragraph] ?? "") && lines.length - paragraph < 3) return whole.slice(0, paragraph).join("\n");
  const start = Math.max(paragraph, whole.findLastIndex((line) => BEGINS.test(line)));
  return [...whole.slice(0, start), paired(openLink(whole.slice(start).join("\n")))].join("\n") + end;
}

const dropLast = (lines) => [...lines.slice(0, -1), ""].join("\n");

function openFence(lines) {
  let open = null;
  lines.forEach((line, number) => {
    const [, mark] = FENCE.exec(line) ?? [];
    if (!mark) return;
    if (!open) open = { mark, line: number };
    else if (mark[0] === open.mark[0] && mark.length >= open.mark.length && /^[\s>]*[`~]+\s*$/.test(line)) open = null;
  });
  return open;
}

// [words](addr is shown as its words, an unfinished picture not at all.
function openLink(text) {
  return text.replace(/!\[[^\]\n]*(?:\](?:\([^)\s]*)?)?$/, "").replace(/(?<!!)\[([^[\]\n]*)(?:\](?:\([^)\s]*)?)?$/, "$1");
}

// Closes emphasis and code that began and has not ended.
function paired(text) {
  const whole = text.replace(/(?<!\\)[*_~`\\]+$/, (run) => (run.includes("`") && closesCode(text, run) ? run : ""));
  const open = [];
  const marks = /\\.|(`+)|(\*\*|__|~~|\*|_)/gs;
  for (let found = marks.exec(whole); found; found = marks.exec(whole)) {
    const [all, code, mark] = found;
    if (code) {
      const end = whole.indexOf(code, marks.lastIndex);
      if (end < 0) return `${whole}${code}${open.reverse().join("")}`;
      marks.lastIndex = end + code.length;
    } else if (mark) {
      step(open, mark, whole[found.index - 1] ?? " ", whole[found.index + all.length] ?? " ");
    }
  }
  return whole + open.reverse().join("");
}

function step(open, mark, before, after) {
  const inWord = mark[0] === "_" && /\w/.test(before) && /\w/.test(after);
  if (inWord) return;
  if (open.at(-1) === mark && /\S/.test(before)) open.pop();
  else if (/\S/.test(after) && !(mark[0] === "_" && /\w/.test(before))) open.push(mark);
}

// Whether the run of backticks at the end is the second of its pair.
function closesCode(text, run) {
  const ticks = /`+$/.exec(run)?.[0];
  return ticks !== undefined && (text.match(/`+/g) ?? []).filter((other) => other === ticks).length % 2 === 0;
}
