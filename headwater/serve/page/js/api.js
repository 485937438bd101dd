// The server, as the page asks it.

export class ApiError extends Error {
  constructor(error, status) {
    super(error.message ?? `HTTP ${status}`);
    this.code = error.code;
  }
}

// [{id, max_model_len, parent}]; throws where the server does not answer.
export async function listModels() {
  const response = await fetch("v1/models");
  if (!response.ok) throw await failure(response);
  return (await response.json()).data.filter((model) => typeof model.id === "string");
}

// [{type, label}] of the server's own tools; none where it has none or does not know the question.
export const listTools = async () => (await list("tools.json")).filter((tool) => typeof tool?.type === "string");

// Questions the server proposes.
export const listExamples = async () => (await list("examples.json")).filter((text) => typeof text === "string");

async function list(name) {
  const response = await fetch(name).catch(() => null);
  const values = response?.ok ? await response.json().catch(() => []) : [];
  return Array.isArray(values) ? values : [];
}

// Yields {text, finish, agent} as the answer comes. Throws ApiError, TypeError where nobody answers, AbortError.
export async function* complete(body, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await failure(response);
  for await (const event of events(response)) {
    if (event.error) throw new ApiError(event.error, response.status);
    const choice = event.choices?.[0];
    yield { text: choice?.delta?.content ?? "", finish: choice?.finish_reason ?? null, agent: event.agent ?? null };
  }
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  return new ApiError(body?.error ?? {}, response.status);
}

// The server-sent events of a response. An event can be split anywhere, even inside a character.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}
