// The page Chat: a conversation with the service itself, each word tinted by who made it.
import { h, number, option, percent, seconds, usd } from "./dom.js";
import { ask, askForKey, events, get, post, problem } from "./api.js";
import { tint } from "./colours.js";
import { asCurl, asPython } from "./snippets.js";

export const quietTitle = true;

const STARTERS = [
  "Tell me a long story about a lighthouse keeper.",
  "Explain how a refrigerator works, in detail.",
  "Write a letter to a friend about a journey by train.",
];
const GATEWAY_KEY = "secondsource gateway key";
const LEDGER_TRIES = 8;

export async function show(main, here) {
  const talk = new Talk(here);
  main.append(h("div", { class: "chat" }, talk.column, talk.aside));
  talk.input.focus();
  here.watchNow((now) => talk.showSuppliers(now));
  here.onLeave(() => talk.stop());
}

class Talk {
  constructor(here) {
    this.about = here.about;
    this.messages = []; // {role, content} as the service is sent them; kept nowhere but here
    this.running = null;
    this.plugged = new Map(this.about.suppliers.map((name) => [name, true]));
    this.log = h("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
    this.log.append(this.welcome());
    this.buildControls();
    this.column = h("section", { class: "talk", "aria-label": "Chat" }, this.log, this.form);
    this.aside = h("aside", { class: "plugs", "aria-labelledby": "plugs-title" },
      h("h2", { id: "plugs-title" }, "Suppliers"), this.switches(),
      h("p", { class: "soft" }, this.about.may_change
        ? "Pull a plug in mid-answer: the supplier is really taken away, and the answer goes on from another."
        : "To pull a plug, the fleet needs an admin key: [admin] key_sha256."),
      this.plugProblem = h("p", { class: "problem", role: "alert", hidden: true }));
  }

  welcome() {
    return h("div", { class: "welcome" },
      h("p", { class: "lead" }, "Ask something. While the answer comes, pull its supplier's plug."),
      h("div", { class: "starters" }, STARTERS.map((text) => h("button", { type: "button", onclick: () => this.send(text) }, text))));
  }

  buildControls() {
    const { models, lanes } = this.about;
    this.model = h("select", { "aria-label": "Model" }, models.map((model) => option(model)));
    this.lane = h("select", { "aria-label": "Lane", title: "A key has a lane; a worse one may be asked for" },
      option("", lanes.length > 1 ? "key's lane" : lanes[0].name), lanes.length > 1 ? lanes.map((lane) => option(lane.name)) : []);
    this.temperature = h("input", { type: "number", min: "0", max: "2", step: "0.1", value: "0.7", "aria-label": "Temperature" });
    this.most = h("input", { type: "number", min: "1", max: "100000", step: "1", value: "400", "aria-label": "Most tokens" });
    this.input = h("textarea", { rows: "2", placeholder: "Message", "aria-label": "Message", onkeydown: (event) => this.onKey(event) });
    this.action = h("button", { type: "submit", class: "primary" }, "Send");
    this.form = h("form", { class: "composer", onsubmit: (event) => this.onSubmit(event) },
      this.input,
      h("div", { class: "controls" },
        this.model, this.lane,
        h("label", { class: "small" }, "temp ", this.temperature),
        h("label", { class: "small" }, "tokens ", this.most),
        h("button", { type: "button", class: "quiet", onclick: () => this.clear() }, "New chat"),
        this.action));
  }

  onKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.onSubmit(event);
    else if (event.key === "Escape") this.stop();
  }

  onSubmit(event) {
    event.preventDefault();
    if (this.running) this.stop();
    else if (this.input.value.trim()) {
      this.send(this.input.value.trim());
      this.input.value = "";
    }
  }

  clear() {
    this.stop();
    this.messages = [];
    this.log.replaceChildren(this.welcome());
    this.input.focus();
  }

  stop() {
    this.running?.abort();
  }

  send(text) {
    if (this.running) return;
    this.log.querySelector(".welcome")?.remove();
    this.messages.push({ role: "user", content: text });
    this.log.append(h("p", { class: "said" }, h("span", { class: "hidden" }, "You: "), text));
    this.answer();
  }

  regenerate() {
    if (this.running) return;
    if (this.messages.at(-1)?.role === "assistant") this.messages.pop();
    this.log.lastElementChild?.remove();
    this.answer();
  }

  body() {
    const lane = this.about.lanes.find((one) => one.name === this.lane.value);
    return {
      model: this.model.value,
      messages: [...this.messages],
      temperature: Number(this.temperature.value),
      max_tokens: Number(this.most.value),
      stream: true,
      stream_options: { include_usage: true },
      ...(lane ? { priority: lane.priority } : {}),
    };
  }

  async answer() {
    const body = this.body();
    const answer = new Answer(this, body);
    for (const old of this.log.querySelectorAll(".again")) old.remove();
    this.log.append(answer.element);
    this.running = new AbortController();
    this.action.textContent = "Stop";
    this.follow(true);
    try {
      await answer.stream(this.running.signal);
    } finally {
      this.running = null;
      this.action.textContent = "Send";
      if (answer.text) this.messages.push({ role: "assistant", content: answer.text });
      this.follow(false);
    }
  }

  follow(always) {
    const near = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 120;
    if (always || near) this.log.scrollTop = this.log.scrollHeight;
  }

  switches() {
    this.rows = new Map(this.about.suppliers.map((name) => [name, this.row(name)]));
    return h("ul", {}, [...this.rows.values()].map((row) => row.element));
  }

  row(name) {
    const state = h("span", { class: "soft" }, "");
    const button = h("button", { type: "button", role: "switch", class: "plug", "aria-checked": "true", "aria-label": `${name} plugged in`,
      disabled: !this.about.may_change, onclick: () => this.pull(name) }, h("span", { class: "knob", "aria-hidden": "true" }));
    const verb = h("span", { class: "verb", "aria-hidden": "true" }, "pull the plug");
    const element = h("li", { class: tint(name) }, h("span", { class: "dot", "aria-hidden": "true" }),
      h("span", { class: "name" }, name, state), h("span", { class: "switch" }, button, verb));
    return { element, button, state, verb };
  }

  async pull(name) {
    const to = this.plugged.get(name) ? "unplug" : "plug";
    try {
      const done = await post(`/admin/suppliers/${encodeURIComponent(name)}/${to}`);
      this.plugProblem.hidden = true;
      this.showPlug(name, done.plugged);
    } catch (error) {
      this.plugProblem.textContent = error.message;
      this.plugProblem.hidden = false;
    }
  }

  showPlug(name, plugged) {
    const row = this.rows.get(name);
    this.plugged.set(name, plugged);
    row.button.setAttribute("aria-checked", String(plugged));
    row.element.classList.toggle("gone", !plugged);
    row.verb.textContent = plugged ? "pull the plug" : "plug it in";
  }

  showSuppliers(now) {
    for (const supplier of now.suppliers) {
      const row = this.rows.get(supplier.name);
      if (!row) continue;
      this.showPlug(supplier.name, supplier.plugged);
      const pools = now.pools.filter((pool) => pool.supplier === supplier.name);
      const up = pools.reduce((sum, pool) => sum + pool.up, 0);
      const replicas = pools.reduce((sum, pool) => sum + pool.replicas, 0);
      const chips = [...new Set(pools.map((pool) => pool.chip))].join(", ");
      const health = supplier.plugged ? `${up}/${replicas} up` : "unplugged";
      row.state.textContent = `${chips} · ${health} · ${supplier.in_flight} in flight`;
    }
  }
}

// One answer: its words, who made them, and what came of it.
class Answer {
  constructor(talk, body) {
    this.talk = talk;
    this.body = body;
    this.text = "";
    this.made = []; // {supplier, chip, pool, attempt, kind} in the order of the text
    this.words = h("div", { class: "words", "aria-busy": "true" });
    this.facts = h("p", { class: "facts" });
    this.more = h("div", { class: "more" });
    this.element = h("article", { class: "answer", "aria-label": "Answer" }, this.words, this.facts, this.more);
    this.span = null;
    this.tokens = 0;
  }

  async stream(signal) {
    this.started = performance.now();
    try {
      const answer = await this.request(signal);
      if (!answer) return;
      this.requestId = answer.headers.get("x-gateway-request-id");
      for await (const event of events(answer)) this.take(event);
      this.ended = performance.now();
      if (!this.done && !this.failure) this.failure = "The stream ended without its end.";
    } catch (error) {
      this.ended = performance.now();
      if (signal.aborted) this.note("stopped");
      else this.failure = error.message;
    } finally {
      this.words.setAttribute("aria-busy", "false");
      this.words.classList.remove("writing");
      if (this.failure) this.words.append(h("p", { class: "problem", role: "alert" }, this.failure));
      this.showFacts();
      this.showActions();
      this.showLedger(); // not awaited: the next question need not wait for the books
    }
  }

  async request(signal) {
    for (;;) {
      const key = sessionStorage.getItem(GATEWAY_KEY);
      const headers = { "content-type": "application/json", ...(key ? { "x-gateway-key": key } : {}) };
      const answer = await ask("/console/api/chat", { method: "POST", headers, body: JSON.stringify(this.body), signal });
      if (answer.ok) return answer;
      if (answer.status !== 401) {
        this.requestId = answer.headers.get("x-gateway-request-id");
        this.failure = await problem(answer);
        this.ended = performance.now();
        return null;
      }
      const given = await askForKey("A key of the gateway", "This service answers to keys only. The key is kept for this tab alone.");
      if (given === null) {
        this.failure = "Without a key there is no answer.";
        return null;
      }
      sessionStorage.setItem(GATEWAY_KEY, given);
    }
  }

  take(event) {
    if (event.comment.startsWith("secondsource ")) this.goOn(JSON.parse(event.comment.slice(13)));
    if (!event.data) return;
    if (event.data === "[DONE]") {
      this.done = true;
      return;
    }
    const data = JSON.parse(event.data);
    if (data.error) this.failure = data.error.message;
    if (data.usage) this.tokens = data.usage.completion_tokens;
    const piece = data.choices?.[0]?.delta?.content;
    if (piece) this.add(piece);
  }

  goOn(place) {
    const before = this.made.at(-1);
    this.made.push(place);
    if (before && this.text) {
      this.words.append(h("span", { class: `seam ${tint(place.supplier)}`, title: `${before.supplier} was lost here; ${place.supplier} goes on` },
        h("span", { class: "hidden" }, `From here on made by ${place.supplier}: `), h("span", { "aria-hidden": "true" }, `→ ${place.supplier}`)));
    }
    this.span = null;
  }

  add(piece) {
    if (!this.text) {
      this.first = performance.now();
      this.words.classList.add("writing");
    }
    if (!this.span) {
      this.span = h("span", { class: `made ${tint(this.made.at(-1)?.supplier)}` });
      this.words.append(this.span);
    }
    this.text += piece;
    this.tokens += 1;
    this.span.append(piece);
    this.showFacts();
    this.talk.follow(false);
  }

  showFacts() {
    const place = this.made.at(-1);
    const until = this.ended ?? performance.now();
    const speed = this.first && this.tokens > 1 ? (this.tokens - 1) / ((until - this.first) / 1000) : null;
    const facts = [];
    const suppliers = [...new Map(this.made.map((made) => [made.supplier, made])).values()];
    for (const made of suppliers) {
      facts.push(h("span", { class: `tag ${tint(made.supplier)}` }, h("span", { class: "dot", "aria-hidden": "true" }), `${made.supplier} · ${made.chip}`));
    }
    if (this.first) facts.push(h("span", { title: "time to the first token" }, `TTFT ${seconds((this.first - this.started) / 1000)}`));
    if (speed) facts.push(h("span", {}, `${number(speed)} tokens/s`));
    if (this.tokens) facts.push(h("span", {}, `${number(this.tokens, 0)} tokens`));
    if (this.cost !== undefined) facts.push(h("span", { title: "what all attempts cost" }, usd(this.cost)));
    if (place) facts.push(h("span", {}, place.attempt === 1 ? "1 attempt" : `${place.attempt} attempts`));
    if (this.stopped) facts.push(h("span", {}, this.stopped));
    this.facts.replaceChildren(...facts);
  }

  note(text) {
    this.stopped = text;
  }

  showActions() {
    const copy = (title, make) => h("button", { type: "button", class: "quiet", onclick: (event) => copied(event.target, make(this.body, this.talk.about)) }, title);
    this.actions = h("div", { class: "actions" },
      h("button", { type: "button", class: "quiet again", onclick: () => this.talk.regenerate() }, "Regenerate"),
      copy("Copy as curl", asCurl), copy("Copy as Python", asPython));
    this.more.append(this.actions);
  }

  // The ledger has an attempt's end a moment after its answer.
  async showLedger() {
    if (!this.requestId) return;
    for (let tries = 0; tries < LEDGER_TRIES; tries += 1) {
      try {
        const { attempts } = await get(`/admin/requests/${this.requestId}`);
        if (attempts.length && attempts.every((attempt) => attempt.outcome !== null)) {
          this.cost = attempts.reduce((sum, attempt) => sum + Number(attempt.cost_usd), 0);
          this.showFacts();
          this.actions.after(attemptList(attempts, this.requestId));
          this.talk.follow(true);
          return;
        }
      } catch {
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 150 * 2 ** tries));
    }
  }
}

function attemptList(attempts, requestId) {
  const lines = attempts.map((attempt) => h("li", { class: tint(attempt.supplier) },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", {}, `${attempt.number}. ${attempt.kind} at ${attempt.pool} `), h("strong", {}, attempt.outcome.replaceAll("_", " ")),
    h("span", { class: "soft" }, ` ${attempt.tokens_out} tokens · ${seconds(attempt.duration_s)} · ${usd(attempt.cost_usd)}`
      + (attempt.tenant_usd === attempt.cost_usd ? "" : `, ${Number(attempt.tenant_usd) ? `${usd(attempt.tenant_usd)} of it` : "none of it"} the tenant's`))));
  return h("details", { class: "attempts", open: attempts.length > 1 }, h("summary", {}, attempts.length === 1 ? "Its attempt" : `Its ${attempts.length} attempts`),
    h("ol", {}, lines), h("a", { href: `#/requests?id=${encodeURIComponent(requestId)}` }, "as a timeline"));
}

async function copied(button, text) {
  const title = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => { button.textContent = title; }, 1500);
}
