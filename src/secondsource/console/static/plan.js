// The page Plan: what was planned for this month beside what is, and what a new plan would change.
import { h, moment, number, percent, table, usd } from "./dom.js";
import { ask, post, problem } from "./api.js";
import { categoryAxis, Chart, GRID, tooltip, valueAxis } from "./charts.js";
import { tint } from "./colours.js";

export async function show(main, here) {
  const answer = await ask("/console/api/plan");
  if (!answer.ok) return main.append(h("p", { class: "problem", role: "alert" }, await problem(answer)));
  const plan = (await answer.json()).standing;
  if (plan === null) return main.append(none(here.about));
  const demand = new Chart(here, "Demand planned and measured by lane; the table below has the numbers", (given, colours) => pairs(given, colours,
    given.demand.map((line) => line.lane), "requests/s", given.demand.map((line) => line.planned_requests_per_s), given.demand.map((line) => line.busiest_requests_per_s ?? 0), ["planned", "busiest 5 min"]));
  const supply = new Chart(here, "Chips planned and rented; the table below has the numbers", (given, colours) => pairs(given, colours,
    given.supply.map((line) => `${line.supplier} ${line.chip}`), "chips", given.supply.map((line) => line.planned_chips), given.supply.map((line) => line.rented_chips), ["planned", "rented"]));
  main.append(
    h("p", { class: "sentence" }, headline(plan)),
    h("p", { class: "soft" }, `${plan.name}, kept ${moment(plan.kept_at)}, from ${plan.spec}.`, plan.in_time ? "" : ` This month is not in the plan; ${plan.month} stands for it.`),
    h("dl", { class: "tiles" }, tile("Planned", usd(plan.planned_usd), `in ${plan.month}`), tile("At this hour's rate", usd(plan.running_usd), "/month"),
      tile("Drift of the cost", plan.planned_usd ? signed(plan.running_usd / plan.planned_usd - 1) : "–"),
      tile("Chips rented", number(total(plan.supply, "rented_chips"), 0), `of ${number(total(plan.supply, "planned_chips"), 0)} planned`)),
    h("div", { class: "grid" },
      h("section", { class: "card half" }, h("h2", {}, "Demand, requests/s"), demand.element),
      h("section", { class: "card half" }, h("h2", {}, "Capacity, chips"), supply.element),
      h("section", { class: "card half" }, demandTable(plan)),
      h("section", { class: "card half" }, supplyTable(plan)),
      again(here)));
  demand.set(plan);
  supply.set(plan);
}

function none(about) {
  return h("section", { class: "card" }, h("p", { class: "sentence" }, "No plan is kept beside this ledger."),
    h("p", {}, "Make one, and keep it here:"), h("p", {}, h("code", {}, `secondsource plan SPEC.toml --keep ${about.state_dir}`)));
}

const total = (lines, name) => lines.reduce((sum, line) => sum + line[name], 0);
const signed = (part) => part === null ? "–" : `${part > 0 ? "+" : ""}${percent(part, Math.abs(part) < 0.1 ? 1 : 0)}`;

function tile(name, value, unit = "") {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, unit && ` ${unit}`)));
}

function headline(plan) {
  const drifts = plan.demand.filter((line) => line.drift !== null);
  if (!drifts.length) return "Nothing that was planned for has been asked in the last day.";
  const widest = drifts.reduce((one, other) => Math.abs(other.drift) > Math.abs(one.drift) ? other : one);
  if (Math.abs(widest.drift) < 0.1) return "Demand is within 10% of the plan in every lane.";
  return `The lane ${widest.lane} asks for ${percent(Math.abs(widest.drift))} ${widest.drift > 0 ? "more" : "less"} than was planned.`;
}

function demandTable(plan) {
  return table("Demand, last day", ["lane", "#planned", "#busiest 5 min", "#mean", "#drift"], plan.demand.map((line) => [line.lane, number(line.planned_requests_per_s, 2),
    number(line.busiest_requests_per_s, 2), number(line.mean_requests_per_s, 2), h("span", { class: line.drift > 0.1 ? "bad" : undefined }, signed(line.drift))]));
}

function supplyTable(plan) {
  return table("Capacity, now", ["supplier", "chip", "#planned", "#rented", "#up", "#planned share", "#served"], plan.supply.map((line) => [
    h("span", { class: `tag ${tint(line.supplier)}` }, h("span", { class: "dot", "aria-hidden": "true" }), line.supplier), line.chip, number(line.planned_chips, 0),
    h("span", { class: line.rented_chips < line.planned_chips ? "bad" : undefined }, number(line.rented_chips, 0)), number(line.up_chips, 0), percent(line.planned_share, 1), percent(line.served_share, 1)]));
}

function again(here) {
  const result = h("div", { role: "status" });
  const button = h("button", { type: "button", class: "primary", disabled: !here.about.may_change, onclick: async () => {
    button.disabled = true;
    result.replaceChildren(h("p", { class: "soft" }, "Planning; up to half a minute of search …"));
    try {
      result.replaceChildren(...changes(await post("/console/api/plan/again")));
    } catch (error) {
      result.replaceChildren(h("p", { class: "problem" }, error.message));
    } finally {
      button.disabled = false;
    }
  } }, "Plan again for the measured demand");
  return h("section", { class: "card" }, h("h2", {}, "What a new plan would change"),
    h("p", { class: "soft" }, "The same SPEC, each lane's demand scaled to its busiest five minutes of the last day. Nothing is rented or changed by it."), button, result);
}

function changes(found) {
  const difference = found.after_usd - found.before_usd;
  const factors = Object.entries(found.factors).map(([lane, factor]) => `${lane} ×${factor}`).join(", ") || "as planned";
  return [
    h("p", { class: "sentence" }, `${usd(found.before_usd)} becomes `, h("strong", {}, usd(found.after_usd)), ` (${difference >= 0 ? "+" : "−"}${usd(Math.abs(difference))}) over the plan's months.`),
    h("p", { class: "soft" }, `Demand: ${factors}. Within ${percent(found.gap, 2)} of the best there is.`),
    table("Chips this month", ["supplier", "chip", "#kept plan", "#new plan", "#change"], found.changes.map((one) => [one.supplier, one.chip, number(one.before, 0), number(one.after, 0),
      h("strong", {}, one.after === one.before ? "–" : `${one.after > one.before ? "+" : ""}${number(one.after - one.before, 0)}`)]))];
}

function pairs(given, colours, names, unit, planned, actual, titles) {
  return {
    grid: GRID, xAxis: categoryAxis(colours, names), yAxis: valueAxis(colours, (value) => number(value, 2)),
    tooltip: tooltip("axis", { axisPointer: { type: "shadow" }, valueFormatter: (value) => `${number(value, 2)} ${unit}` }),
    series: [
      { name: titles[0], type: "bar", barMaxWidth: 30, data: planned, itemStyle: { color: colours.edge } },
      { name: titles[1], type: "bar", barMaxWidth: 30, data: actual, itemStyle: { color: colours.accent } }],
  };
}
