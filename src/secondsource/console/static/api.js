// What the page asks of the admin listener. Keys are kept for this tab alone, and never in a link.

const ADMIN_KEY = "secondsource admin key";
const LONGEST_PAUSE_MS = 10000;

export function adminKey() {
  return sessionStorage.getItem(ADMIN_KEY);
}

async function askForAdminKey(why) {
  const key = await askForKey("The admin key", why);
  if (key === null) throw new Error("the admin listener needs its key");
  sessionStorage.setItem(ADMIN_KEY, key);
}

let asking = null; // one dialogue at a time, whoever asks

export function askForKey(title, why) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask-key");
    dialog.querySelector("h2").textContent = title;
    dialog.querySelector("#ask-key-why").textContent = why;
    const input = dialog.querySelector("input");
    input.value = "";
    dialog.addEventListener("close", () => {
      asking = null;
      resolve(dialog.returnValue === "use" && input.value ? input.value : null);
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

export async function ask(path, options = {}) {
  for (let tries = 0; ; tries += 1) {
    const used = adminKey();
    const headers = { ...options.headers, ...(used ? { authorization: `Bearer ${used}` } : {}) };
    const answer = await fetch(path, { ...options, headers });
    const code = answer.status === 401 && !answer.headers.has("x-gateway-request-id");
    if (!code || tries > 4) return answer;
    if (adminKey() === used) await askForAdminKey(used ? "That key is not the right one." : "This listener shows nothing without its key. It is kept for this tab alone.");
  }
}

export async function problem(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `HTTP ${answer.status}`;
  }
}

export async function get(path) {
  const answer = await ask(path);
  if (!answer.ok) throw new Error(await problem(answer));
  return answer.json();
}

export async function post(path) {
  const answer = await ask(path, { method: "POST" });
  if (!answer.ok) throw new Error(await problem(answer));
  return answer.json();
}

// Yields {event, data, comment} of a server-sent event stream, also one that was asked for with POST.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const found = { event: "message", data: "", comment: "" };
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith(":")) found.comment += line.slice(1).trim();
    else if (line.startsWith("data:")) found.data += line.slice(5).trim();
    else if (line.startsWith("event:")) found.event = line.slice(6).trim();
  }
  return found;
}

// Watches an event stream until `stop` is called; comes back by itself, later each time, when it is cut off.
export function watch(path, onData, onState) {
  const stopping = new AbortController();
  const run = async () => {
    for (let pause = 500; !stopping.signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        const answer = await ask(path, { signal: stopping.signal });
        if (!answer.ok) throw new Error(await problem(answer));
        onState(true);
        for await (const event of events(answer)) {
          pause = 500;
          if (event.data) onData(JSON.parse(event.data));
        }
      } catch (error) {
        if (stopping.signal.aborted) return;
        console.info(`the live connection was lost: ${error.message}`);
      }
      if (stopping.signal.aborted) return;
      onState(false);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  };
  run();
  return () => stopping.abort();
}
