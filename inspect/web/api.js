// The JSON API. All URLs are relative to the page, which may be mounted anywhere.

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.Error || `status ${status}`);
    this.status = status;
    this.kind = answer.Kind;
    this.detail = answer.Detail;
  }
}

async function answerOf(response) {
  let answer;
  try {
    answer = await response.json();
  } catch {
    answer = {Error: `${response.status} ${response.statusText}: the answer is not JSON`};
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

// url joins names and parameters, and leaves out empty ones.
export function url(names, params = {}) {
  const given = Object.entries(params).filter(([, v]) => v != null && v !== "" && v !== false);
  const text = new URLSearchParams(given.map(([k, v]) => [k, String(v)])).toString();
  return "api/" + names.map(encodeURIComponent).join("/") + (text ? "?" + text : "");
}

export const get = async (names, params, signal) => answerOf(await fetch(url(names, params), {signal, credentials: "same-origin"}));

export const post = async (names, body) =>
  answerOf(
    await fetch(url(names), {
      method: "POST",
      credentials: "same-origin",
      headers: {"Content-Type": "application/json", "Braid-Inspect": "page"},
      body: JSON.stringify(body),
    }),
  );

// poll calls fn at once, then at the given interval in milliseconds while the page is visible,
// and when wake is called. Calls do not overlap. stop ends it.
export function poll(fn, every) {
  const ended = new AbortController();
  let timer = null;
  let running = false;
  let again = false;
  const run = async () => {
    clearTimeout(timer);
    if (ended.signal.aborted) return;
    if (running) {
      again = true;
      return;
    }
    if (!document.hidden) {
      running = true;
      await fn(ended.signal).catch((err) => {
        if (!ended.signal.aborted) console.error(err);
      });
      running = false;
    }
    if (ended.signal.aborted) return;
    timer = setTimeout(run, again ? 0 : every);
    again = false;
  };
  const shown = () => document.hidden || run();
  document.addEventListener("visibilitychange", shown);
  run();
  return {
    wake: run,
    stop: () => {
      ended.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    },
  };
}
