// Small helpers over the document. Text always goes in as text: no function here takes markup.

const PATHS = {
  plus: ["M12 5v14M5 12h14"],
  copy: ["M9 9h10v10H9z", "M5 15V5h10"],
  again: ["M20 11a8 8 0 1 0-2.3 6.7M20 5v6h-6"],
  edit: ["M4 20h4L19 9l-4-4L4 16z"],
  remove: ["M6 6l12 12M18 6L6 18"],
  save: ["M12 4v11M7 11l5 5 5-5M5 20h14"],
  python: ["M8 8l-4 4 4 4M16 8l4 4-4 4M13.5 6l-3 12"],
  browser: ["M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M3 12h18M12 3c5 5 5 13 0 18M12 3c-5 5-5 13 0 18"],
  cogview: ["M4 5h16v14H4z", "M4 16l5-5 4 4 3-3 4 4", "M15.5 9.2v.1"],
  tool: ["M14 7a4 4 0 0 1 5-3l-2.5 2.5 1 2 2 1L22 7a4 4 0 0 1-5 5l-7 8-4-4 8-7z"],
};

export const $ = (id) => document.getElementById(id);

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const d of PATHS[Object.hasOwn(PATHS, name) ? name : "tool"]) {
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

export function nearBottom(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 80;
}

// Where the page is not served from a secure origin (a phone in the same network) there is no clipboard object.
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = make("textarea", "away");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  saveAs(name, address);
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export function saveAs(name, address) {
  const link = make("a");
  link.href = address;
  link.download = name;
  link.click();
}

// While an input method composes, Enter chooses a candidate and sends nothing (229: Safari's way to say so). On a touch
// screen it starts a new line: the keyboard there has no Shift to hold.
export function sends(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return false;
  return !matchMedia("(hover: none) and (pointer: coarse)").matches;
}
