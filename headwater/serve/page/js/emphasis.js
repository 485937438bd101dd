// Emphasis beside Chinese: CommonMark asks for a space or a mark around `**`, which Chinese writing does not have, so
// that **“words”**后 would keep its stars. Here a neighbour of Chinese, Japanese or Korean writing counts as such a
// boundary, and its own marks count as letters.

const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff00-\uffef]/u;
const SPACE = /^\s?$/;
const MARK = /[\p{P}\p{S}]/u;

export function useCjkEmphasis(markdown) {
  markdown.inline.State.prototype.scanDelims = scanDelims;
}

function scanDelims(start, canSplitWord) {
  let end = start;
  while (end < this.posMax && this.src[end] === this.src[start]) end += 1;
  const last = before(this.src, start);
  const next = end < this.posMax ? String.fromCodePoint(this.src.codePointAt(end)) : "";
  const left = !SPACE.test(next) && (!isMark(next) || isBoundary(last));
  const right = !SPACE.test(last) && (!isMark(last) || isBoundary(next));
  return {
    can_open: left && (canSplitWord || !right || isMark(last)),
    can_close: right && (canSplitWord || !left || isMark(next)),
    length: end - start,
  };
}

const isMark = (character) => MARK.test(character) && !CJK.test(character);
const isBoundary = (character) => SPACE.test(character) || MARK.test(character) || CJK.test(character);

function before(text, position) {
  if (position === 0) return "";
  const low = text.charCodeAt(position - 1);
  const paired = position > 1 && low >= 0xdc00 && low <= 0xdfff;
  return text.slice(position - (paired ? 2 : 1), position);
}
