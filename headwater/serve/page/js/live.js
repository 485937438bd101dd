// A text that grows on the page. Each showing parses from the last block on (those before it cannot change any more) and
// touches only the elements that differ, so that long answers stay smooth and what is selected stays selected.

import { elements, parse } from "./markdown.js";
import { mend } from "./mend.js";

const REST = 4; // a showing is followed by this many times its own duration in which there is none

export class LiveText {
  // `around` is called with the function that shows, and may look at the page before and after.
  constructor(element, around = (show) => show()) {
    this.element = element;
    this.around = around;
    this.source = "";
    this.settled = 0; // characters of blocks that cannot change
    this.kept = 0; // their elements
    this.env = { live: true };
    this.frame = 0;
    this.notBefore = 0;
  }

  push(text) {
    this.source += text;
    this.frame ||= requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.frame = 0;
    if (now < this.notBefore) {
      this.frame = requestAnimationFrame((later) => this.tick(later));
      return;
    }
    const began = performance.now();
    this.around(() => this.show(mend(this.source.slice(this.settled))));
    const ended = performance.now();
    this.notBefore = ended + REST * (ended - began);
  }

  // Shows the text as it is, for good.
  finish() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const refers = Object.keys(this.env.references ?? {}).length > 0; // a later line says where an earlier link leads
    if (refers) this.settled = this.kept = 0;
    this.env = { ...this.env, live: false };
    this.around(() => this.show(this.source.slice(this.settled)));
  }

  show(open) {
    const tokens = parse(open, this.env);
    const fragment = elements(tokens, this.env);
    const starts = tokens.filter((token) => token.level === 0 && token.nesting >= 0 && token.map).map((token) => token.map[0]);
    const whole = fragment.childNodes.length === starts.length;
    morph(this.element, [...fragment.childNodes], this.kept);
    if (whole) this.settle(open, starts);
  }

  // Blocks before the last blank line between two of them cannot change: what follows has begun anew.
  settle(open, starts) {
    const lines = open.split("\n");
    const blocks = starts.findLastIndex((line, block) => block > 0 && !lines[line - 1].trim());
    if (blocks < 1) return;
    this.settled += lines.slice(0, starts[blocks]).reduce((sum, line) => sum + line.length + 1, 0);
    this.kept += blocks;
  }
}

// Makes the children of `parent` from number `from` on into `fresh`, keeping those that are equal.
export function morph(parent, fresh, from = 0) {
  const old = [...parent.childNodes].slice(from);
  fresh.forEach((node, index) => {
    const present = old[index];
    if (!present) parent.append(node);
    else if (!present.isEqualNode(node)) change(present, node);
  });
  old.slice(fresh.length).forEach((node) => node.remove());
}

function change(present, node) {
  const text = present.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE;
  if (text && node.data.startsWith(present.data)) present.appendData(node.data.slice(present.data.length));
  else if (text) present.data = node.data;
  else if (present.nodeName === node.nodeName && sameAttributes(present, node)) morph(present, [...node.childNodes]);
  else present.replaceWith(node);
}

function sameAttributes(one, other) {
  const names = one.getAttributeNames?.() ?? [];
  return names.length === (other.getAttributeNames?.() ?? []).length
    && names.every((name) => one.getAttribute(name) === other.getAttribute(name));
}
