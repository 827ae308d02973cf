// The page Now: what flows where this moment, and whether promises are kept.
import { clock, h, number, percent, seconds, table, usd } from "./dom.js";
import { Chart, GRID, logAxis, timeAxis, tooltip, valueAxis } from "./charts.js";
import { colour, tint, token } from "./colours.js";

const LANE_COLOURS = ["--accent", "--edge", "--s6", "--s4", "--s5", "--s7"];
const KINDS = { failover: "failover", refusal: "refused", broken: "broken off", breach: "over its share", late: "late" };

export async function show(main, here) {
  const page = new Page(here);
  main.append(page.tiles, page.grid);
  here.watchNow((now) => page.show(now));
}

class Page {
  constructor(here) {
    this.lanes = here.about.lanes;
    this.tiles = h("dl", { class: "tiles" });
    this.flow = new Chart(here, "Flow from lanes to suppliers to chips; the table of pools has the numbers", flowOptions, "tall");
    this.ttft = new Chart(here, "Time to first token by lane over five minutes; the table of lanes has the numbers", (now, colours) => laneOptions(now, colours, "ttft"));
    this.tpot = new Chart(here, "Time per output token by lane over five minutes; the table of lanes has the numbers", (now, colours) => laneOptions(now, colours, "tpot"));
    this.tokens = new Chart(here, "Tokens per second by supplier over five minutes; the table of suppliers has the numbers", tokenOptions);
    this.incidents = h("ul", { class: "incidents", tabindex: "0", "aria-label": "Incidents, newest first" });
    this.laneTable = h("div");
    this.poolTable = h("div");
    this.supplierTable = h("div");
    this.chipTable = h("div");
    this.grid = h("div", { class: "grid" },
      card("Lanes to suppliers to chips, last minute", "two-thirds", this.flow.element),
      card("Incidents", "third", this.incidents),
      card("Time to first token", "third", this.ttft.element),
      card("Time per output token", "third", this.tpot.element),
      card("Tokens/s by supplier", "third", this.tokens.element),
      card("", "", this.laneTable), card("", "", this.poolTable),
      card("", "half", this.supplierTable), card("", "half", this.chipTable));
  }

  show(now) {
    this.showTiles(now);
    for (const chart of [this.flow, this.ttft, this.tpot, this.tokens]) chart.set(now);
    this.showIncidents(now.incidents);
    replaceTable(this.laneTable, laneTable(now));
    replaceTable(this.poolTable, poolTable(now));
    replaceTable(this.supplierTable, supplierTable(now));
    replaceTable(this.chipTable, chipTable(now));
  }

  showTiles(now) {
    const tile = (name, value, unit = "") => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, unit && ` ${unit}`)));
    this.tiles.replaceChildren(
      tile("In flight", number(now.running, 0)), tile("Waiting", number(now.waiting, 0)),
      tile("Requests", number(now.requests_per_s), "/s"), tile("Tokens", number(now.tokens_per_s, 0), "/s"),
      tile("Goodput", percent(now.goodput, 1)), tile("Refused", number(now.refused_per_s), "/s"),
      tile("Spend", usd(now.usd_per_hour), "/h"), tile("Loaded", usd(now.usd_per_million), "/M tok"));
  }

  showIncidents(incidents) {
    const lines = incidents.map((one) => h("li", {},
      h("time", { class: "soft", datetime: one.at }, clock(one.at)),
      h("span", {}, h("span", { class: `kind ${one.kind}` }, KINDS[one.kind]), one.count > 1 ? ` ×${number(one.count, 0)} ` : " ",
        h("span", {}, one.reason.replaceAll("_", " ")), h("span", { class: "soft" }, [one.supplier && ` · ${one.supplier}`, one.lane && ` · ${one.lane}`])),
      h("a", { href: `#/requests?id=${one.request_ids.join(",")}`, "aria-label": `Requests of this ${KINDS[one.kind]}` }, one.count === 1 ? "request" : "requests")));
    this.incidents.replaceChildren(...(lines.length ? lines : [h("li", {}, h("span"), h("span", { class: "soft" }, "None in the last minutes."))]));
  }
}

function card(title, size, ...content) {
  return h("section", { class: `card ${size}` }, title && h("h2", {}, title), content);
}

// Kept where it is scrolled to, and where the focus is.
function replaceTable(place, fresh) {
  const old = place.firstElementChild;
  if (!old) place.append(fresh);
  else old.querySelector("tbody").replaceWith(fresh.querySelector("tbody"));
}

function laneTable(now) {
  const against = (value, slo) => h("span", { class: slo !== null && value !== null && value > slo ? "bad" : undefined }, seconds(value));
  return table("Lanes, last minute",
    ["lane", "#running", "#waiting", "#requests/s", "#refused/s", "#tokens/s", "#TTFT p50", "#p99", "#SLO", "#TPOT p50", "#p99", "#SLO", "#goodput"],
    now.lanes.map((lane) => [lane.name, number(lane.running, 0), number(lane.waiting, 0), number(lane.requests_per_s), number(lane.refused_per_s),
      number(lane.tokens_per_s, 0), seconds(lane.ttft_s_p50), against(lane.ttft_s_p99, lane.ttft_s_slo), seconds(lane.ttft_s_slo),
      seconds(lane.tpot_s_p50), against(lane.tpot_s_p99, lane.tpot_s_slo), seconds(lane.tpot_s_slo), percent(lane.goodput, 1)]));
}

function poolTable(now) {
  return table("Pools",
    ["pool", "supplier", "chip", "health", "circuit", "#in flight", "#limit", "#waiting", "parity", "a cut answer goes on", "#tokens/s", "#failed/min", "#$/h"],
    now.pools.map((pool) => [pool.name, named(pool.supplier), pool.chip, health(pool),
      Object.entries(pool.circuits).map(([state, count]) => (pool.replicas > 1 ? `${count} ` : "") + state.replace("_", " ")).join(", "),
      number(pool.in_flight, 0), pool.limit === null ? "none" : number(pool.limit, 0), number(pool.waiting, 0),
      pool.at_par ? "at par" : h("span", { class: "bad" }, "not at par"), { none: "no", prefill: "by text", tokens: "by token ids" }[pool.continuation],
      number(pool.tokens_per_s, 0), h("span", { class: pool.failed_per_min ? "warn" : undefined }, number(pool.failed_per_min, 0)), usd(pool.usd_per_hour)]));
}

function health(pool) {
  if (!pool.plugged) return h("span", { class: "bad" }, "unplugged");
  return h("span", { class: pool.up === pool.replicas ? "good" : "bad" }, `${pool.up}/${pool.replicas} up`);
}

function named(supplier) {
  return h("span", { class: `tag ${tint(supplier)}` }, h("span", { class: "dot", "aria-hidden": "true" }), supplier);
}

function supplierTable(now) {
  return table("Suppliers against their caps", ["supplier", "share of the spend", "#share", "#cap", "#in flight", "#tokens/s"],
    now.suppliers.map((one) => [named(one.name),
      h("meter", { min: "0", max: "1", value: one.share ?? 0, high: one.max_share ?? 1, "aria-label": `share of ${one.name}` }),
      h("span", { class: one.capped ? "bad" : undefined }, percent(one.share, 1)), one.max_share === null ? "none" : percent(one.max_share),
      number(one.in_flight, 0), number(one.tokens_per_s, 0)]));
}

function chipTable(now) {
  return table("Spend by chip", ["chip", "#$/h", "#tokens/s", "#$/M tokens, busy seconds", "#$/M tokens, all hours"],
    now.chips.map((one) => [one.chip, usd(one.usd_per_hour), number(one.tokens_per_s, 0), usd(one.marginal_usd_per_million), usd(one.loaded_usd_per_million)]));
}

function flowOptions(now, colours) {
  const nodes = new Map();
  const links = new Map();
  const node = (id, name, style) => nodes.has(id) || nodes.set(id, { name: id, label: { formatter: name }, itemStyle: { color: style } });
  const link = (source, target, value, style) => {
    const found = links.get(`${source}>${target}`) ?? { source, target, value: 0, lineStyle: { color: style } };
    found.value += value;
    links.set(`${source}>${target}`, found);
  };
  for (const flow of now.flows) {
    const value = flow.attempts + flow.running;
    if (!value) continue;
    const own = colour(flow.supplier);
    node(`l:${flow.lane}`, flow.lane, colours.edge);
    node(`s:${flow.supplier}`, flow.supplier, own);
    node(`c:${flow.chip}`, flow.chip, colours.soft);
    link(`l:${flow.lane}`, `s:${flow.supplier}`, value, own);
    link(`s:${flow.supplier}`, `c:${flow.chip}`, value, own);
  }
  const title = { text: nodes.size ? "" : "Nothing has flowed in the last minute.", left: "center", top: "middle", textStyle: { color: colours.soft, fontSize: 14, fontWeight: 400 } };
  return {
    title,
    tooltip: tooltip("item", { formatter: ({ data, value }) => data.source ? `${data.source.slice(2)} → ${data.target.slice(2)}: ${number(value, 0)} attempts` : `${data.name.slice(2)}: ${number(value, 0)} attempts` }),
    series: [{ type: "sankey", left: 4, right: 110, top: 8, bottom: 8, nodeWidth: 12, nodeGap: 18, draggable: false, layoutIterations: 24,
      label: { color: colours.ink, fontSize: 13 }, lineStyle: { opacity: 0.32, curveness: 0.5 }, emphasis: { focus: "adjacency" },
      data: [...nodes.values()], links: [...links.values()] }],
  };
}

function laneOptions(now, colours, what) {
  const of = (lane) => now.series.lanes[lane];
  const points = (values) => now.series.at.map((at, index) => [at, values[index]]);
  const series = now.lanes.flatMap((lane, index) => {
    const own = token(LANE_COLOURS[index % LANE_COLOURS.length]);
    const line = (name, values, type) => ({ name, type: "line", showSymbol: true, symbolSize: 3, connectNulls: true, data: points(values),
      lineStyle: { color: own, width: 1.8, type }, itemStyle: { color: own } });
    const slo = lane[`${what}_s_slo`];
    const shown = [line(`${lane.name} p50`, of(lane.name)[`${what}_s_p50`], "solid")];
    if (what === "ttft") shown.push(line(`${lane.name} p99`, of(lane.name).ttft_s_p99, "dotted"));
    if (slo !== null) {
      shown[0].markLine = { symbol: "none", silent: true, data: [{ yAxis: slo }], lineStyle: { color: own, type: "dashed", opacity: 0.7 },
        label: { formatter: `${lane.name} SLO`, color: colours.soft, position: "insideEndTop" } };
    }
    return shown;
  });
  return { grid: GRID, xAxis: timeAxis(colours), yAxis: logAxis(colours, (value) => seconds(value), now.lanes.map((lane) => lane[`${what}_s_slo`])), series,
    tooltip: tooltip("axis", { valueFormatter: (value) => seconds(value) }) };
}

function tokenOptions(now, colours) {
  const series = Object.entries(now.series.tokens_per_s).map(([supplier, values]) => ({
    name: supplier, type: "line", stack: "tokens", showSymbol: false, data: now.series.at.map((at, index) => [at, values[index]]),
    lineStyle: { width: 1.2, color: colour(supplier) }, itemStyle: { color: colour(supplier) }, areaStyle: { opacity: 0.35 } }));
  return { grid: GRID, xAxis: timeAxis(colours), yAxis: valueAxis(colours, (value) => number(value, 0)), series,
    tooltip: tooltip("axis", { valueFormatter: (value) => `${number(value)} tokens/s` }) };
}
