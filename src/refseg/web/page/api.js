// What the page asks of the server; errors have the server's own words.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem("refseg-token");
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function refusalOf(response) {
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // no JSON: something between page and server answered
  }
  return new Refused(response.status, message);
}

export async function get(path, signal) {
  const response = await fetch(path, { headers: headers(), signal });
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/** Asks one model; `heard` gets every step, and the answers come back. */
export async function segment({ image, expressions, model, threshold, signal, heard }) {
  const form = new FormData();
  form.append("image", image);
  for (const expression of expressions) form.append("expression", expression);
  form.append("model", model);
  form.append("threshold", threshold);
  const response = await fetch("/v1/segment", {
    method: "POST", body: form, headers: headers({ Accept: "application/x-ndjson" }), signal,
  });
  if (!response.ok) throw await refusalOf(response);
  let last = { state: "failed", status: 0, error: "the connection ended before the answer" };
  for await (const line of lines(response.body)) {
    last = JSON.parse(line);
    if (last.state !== "done" && last.state !== "failed") heard(last);
  }
  if (last.state === "done") return last.result;
  throw new Refused(last.status ?? 0, last.error ?? "the connection ended before the answer");
}

/** A figure of why an expression found what it found, as a file. */
export async function explain({ image, expression, model, kind, signal }) {
  const form = new FormData();
  form.append("image", image);
  form.append("expression", expression);
  form.append("model", model);
  const response = await fetch("/v1/explain", { method: "POST", body: form, headers: headers({ Accept: kind }), signal });
  if (!response.ok) throw await refusalOf(response);
  return response.blob();
}

async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const parts = rest.split("\n");
    rest = parts.pop();
    yield* parts.filter(Boolean);
  }
}
