// Calls to the page's own origin.

/** An answer that was not 2xx; `message` is whisp-bff's own, fit to show. */
export class HTTPError extends Error {
  constructor(status, problem) {
    super(problem?.message ?? `The server answered ${status}. Try again in a moment.`);
    this.name = "HTTPError";
    this.status = status;
    this.code = problem?.code ?? "";
  }
}

export const get = (path) => call("GET", path);
export const post = (path) => call("POST", path);

async function call(method, path) {
  let answer;
  try {
    answer = await fetch(path, { method, headers: { Accept: "application/json" } });
  } catch {
    throw new HTTPError(0, { message: "The server cannot be reached. Check your connection." });
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new HTTPError(answer.status, body);
  return body;
}
