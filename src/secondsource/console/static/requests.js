// The page Requests: find one, and see its attempts as a timeline.
import { h, moment, number, option, seconds, table, usd } from "./dom.js";
import { get } from "./api.js";
import { Chart, GRID, tooltip } from "./charts.js";
import { colour, tint } from "./colours.js";

const OUTCOMES = ["", "ok", "failover", "refused", "unplugged", "connect_failed", "reset", "cut", "stalled", "first_token_timeout", "throttled", "server_error",
  "error_event", "garbled", "departed", "caller_error", "context_overflow", "total_timeout", "client_gone", "interrupted"];
const TELLING = { failover: "more than one attempt", refused: "refused", "": "any" };

export async function show(main, here) {
  const asked = here.parameters;
  const id = h("input", { name: "id", size: "34", value: asked.get("id") ?? "", placeholder: "req_… or its beginning", spellcheck: "false" });
  const tenant = h("input", { name: "tenant", size: "12", value: asked.get("tenant") ?? "" });
  const outcome = h("select", { name: "outcome" }, OUTCOMES.map((value) => option(value, TELLING[value] ?? value.replaceAll("_", " "))));
  outcome.value = asked.get("outcome") ?? "";
  const hours = h("select", { name: "hours" }, option("1", "last hour"), option("24", "last day"), option("168", "last week"), option("744", "last month"));
  hours.value = asked.get("hours") ?? "24";
  const found = h("div", {});
  const detail = h("section", { class: "card", hidden: true, tabindex: "-1", "aria-label": "One request" });
  const list = new List(here, found, detail);
  const submit = async (event) => {
    event?.preventDefault();
    const query = new URLSearchParams({ id: id.value.trim(), tenant: tenant.value.trim(), outcome: outcome.value, hours: hours.value });
    history.replaceState(null, "", `#/requests?${query}`);
    await list.load(query);
  };
  main.append(
    h("form", { class: "filters", role: "search", "aria-label": "Find requests", onsubmit: submit },
      h("label", {}, "request id", id), h("label", {}, "tenant", tenant), h("label", {}, "outcome", outcome), h("label", {}, "when", hours),
      h("button", { class: "primary" }, "Find")),
    h("div", { class: "grid" }, detail, h("section", { class: "card" }, found)));
  await submit();
}

class List {
  constructor(here, place, detail) {
    this.here = here;
    this.place = place;
    this.detail = detail;
    this.chart = new Chart(here, "The attempts of this request over time; the table below has the numbers", timeline, "short");
  }

  async load(query) {
    this.detail.hidden = true;
    let answer;
    try {
      answer = await get(`/console/api/requests?${query}`);
    } catch (error) {
      this.place.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
      return;
    }
    const rows = answer.requests.map((one) => [
      h("button", { type: "button", class: "quiet", onclick: () => this.open(one) }, h("code", {}, one.request_id)),
      moment(one.at), one.tenant || "–", one.lane || "–", one.model || "–",
      h("span", { class: one.outcome === "ok" ? "good" : one.outcome === null ? "soft" : "bad" }, one.reason || (one.outcome ?? "running").replaceAll("_", " ")),
      h("span", { class: "row" }, one.suppliers.map(named)), number(one.attempts, 0), number(one.tokens_out, 0), seconds(one.duration_s), usd(one.cost_usd)]);
    this.place.replaceChildren(table(answer.more ? "The newest hundred of them" : `${answer.requests.length} found`,
      ["request", "began", "tenant", "lane", "model", "outcome", "suppliers", "#attempts", "#tokens", "#took", "#cost"], rows, "No request is like that."));
    if (answer.requests.length === 1) await this.open(answer.requests[0]);
  }

  async open(one) {
    const parts = [h("h2", {}, h("code", {}, one.request_id))];
    if (one.attempts === 0) {
      parts.push(h("p", {}, `Refused before any replica was asked: ${one.reason}.`));
    } else {
      const { attempts } = await get(`/admin/requests/${one.request_id}`);
      parts.push(this.chart.element, attemptTable(attempts));
    }
    parts.push(await this.logged(one.request_id));
    this.detail.replaceChildren(...parts);
    this.detail.hidden = false;
    if (one.attempts) {
      const { attempts } = await get(`/admin/requests/${one.request_id}`);
      this.chart.set(attempts);
    }
    this.detail.focus({ preventScroll: true });
    this.detail.scrollIntoView({ block: "nearest" });
  }

  async logged(requestId) {
    const { line } = await get(`/console/api/requests/${requestId}/log`);
    if (line !== null) {
      const said = line.prompt === undefined ? "" : ` It was asked: ${JSON.stringify(line.prompt)}`;
      return h("p", { class: "soft" }, `The client got HTTP ${line.status} after ${seconds(line.duration_s)}`
        + (line.first_token_s === null ? "." : `, its first token after ${seconds(line.first_token_s)}, ${number(line.tokens_out, 0)} tokens in all.`) + said);
    }
    return h("p", { class: "soft" }, "The newest part of the request log does not have it.");
  }
}

function named(supplier) {
  return h("span", { class: `tag ${tint(supplier)}` }, h("span", { class: "dot", "aria-hidden": "true" }), supplier);
}

function attemptTable(attempts) {
  return table("Its attempts", ["#", "why", "pool", "supplier", "chip", "outcome", "#HTTP", "#to first token", "#took", "#tokens in", "#tokens out", "#cost", "#tenant's part"],
    attempts.map((one) => [String(one.number), one.kind, one.pool, named(one.supplier), one.chip, (one.outcome ?? "running").replaceAll("_", " "), String(one.status || "–"),
      seconds(one.first_token_s), seconds(one.duration_s), number(one.tokens_in, 0), number(one.tokens_out, 0), usd(one.cost_usd), usd(one.tenant_usd)]));
}

function timeline(attempts, colours) {
  const began = Math.min(...attempts.map((one) => Date.parse(one.at)));
  const rows = attempts.map((one) => ({ one, from: (Date.parse(one.at) - began) / 1000, first: one.first_token_s ?? one.duration_s, rest: one.first_token_s === null ? 0 : one.duration_s - one.first_token_s }));
  const bar = (name, value, style) => ({ name, type: "bar", stack: "time", barWidth: 16, data: rows.map((row) => ({ value: value(row), itemStyle: style(row) })) });
  return {
    legend: { show: false },
    grid: { ...GRID, top: 6 },
    xAxis: { type: "value", min: 0, axisLabel: { color: colours.soft, formatter: (value) => seconds(value) }, splitLine: { lineStyle: { color: colours.line } } },
    yAxis: { type: "category", inverse: true, data: rows.map(({ one }) => `${one.number}  ${one.pool}`), axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: colours.ink } },
    tooltip: tooltip("item", { formatter: ({ seriesName, value, dataIndex }) => `${rows[dataIndex].one.supplier}: ${(rows[dataIndex].one.outcome ?? "running").replaceAll("_", " ")}\n${seriesName} ${seconds(value)}` }),
    series: [
      bar("before", (row) => row.from, () => ({ color: "transparent" })),
      bar("to the first token", (row) => row.first, ({ one }) => ({ color: colour(one.supplier), opacity: 0.35 })),
      bar("tokens", (row) => row.rest, ({ one }) => ({ color: colour(one.supplier) }))],
  };
}
