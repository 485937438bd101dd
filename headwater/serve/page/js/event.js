// What a tool did, as the API's field `agent` tells it and as a browser keeps it: every part made what it must be.

const text = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));
const list = (value) => (Array.isArray(value) ? value : []);

// null where there is nothing the page knows. `at` is how much of the answer's text was there before it.
export function tidyEvent(event, at) {
  const id = text(event?.id);
  switch (event?.type) {
    case "call":
      return { type: "call", at, id, name: text(event.name), arguments: text(event.arguments) };
    case "observation":
      return {
        type: "observation", at, id, text: text(event.text), failed: event.failed === true,
        images: list(event.images).map(text), sources: list(event.sources).map((pair) => list(pair).slice(0, 2).map(text)),
      };
    case "budget":
      return { type: "budget", at, what: text(event.what) };
    default:
      return null;
  }
}
