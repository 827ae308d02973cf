// The page Spend: the ledger by time and by one dimension, and what the second source saved or cost.
import { h, number, option, percent, table, usd } from "./dom.js";
import { ask, get, problem } from "./api.js";
import { categoryAxis, Chart, GRID, tooltip, valueAxis } from "./charts.js";
import { colour, tint, token } from "./colours.js";

const BY = ["supplier", "chip", "pool", "model", "tenant", "lane"];
const SPANS = { "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days" };
const COLOURS = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7", "--s8"];

export async function show(main, here) {
  const span = h("select", {}, Object.entries(SPANS).map(([value, text]) => option(value, text)));
  const by = h("select", {}, BY.map((value) => option(value)));
  const basis = h("select", {}, option("marginal_usd", "marginal: the seconds used"), option("loaded_usd", "loaded: every rented hour"));
  span.value = here.parameters.get("span") ?? "24h";
  by.value = here.parameters.get("by") ?? "supplier";
  const csv = h("button", { type: "button", onclick: () => download(span.value, by.value) }, "Download CSV");
  const chart = new Chart(here, "Spend over time; the table below has the numbers", options);
  const sentence = h("div");
  const totals = h("div");
  const wrong = h("p", { class: "problem", role: "alert", hidden: true });
  main.append(
    h("form", { class: "filters", "aria-label": "What to show", onsubmit: (event) => event.preventDefault() },
      h("label", {}, "over", span), h("label", {}, "by", by), h("label", {}, "price", basis), csv),
    wrong,
    h("div", { class: "grid" },
      h("section", { class: "card two-thirds" }, h("h2", {}, "Spend"), chart.element),
      h("section", { class: "card third" }, h("h2", {}, "What the second source saved or cost"), sentence),
      h("section", { class: "card" }, totals)));

  let spend = null;
  const draw = () => {
    if (!spend) return;
    chart.set({ spend, basis: basis.value });
    sentence.replaceChildren(...saved(spend.alone, basis.value));
    totals.replaceChildren(totalTable(spend, basis.value));
  };
  const load = async () => {
    try {
      spend = await get(`/console/api/spend?span=${span.value}&by=${by.value}`);
      wrong.hidden = true;
      draw();
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
  };
  span.addEventListener("change", load);
  by.addEventListener("change", load);
  basis.addEventListener("change", draw);
  await load();
  const again = setInterval(load, 60000);
  here.onLeave(() => clearInterval(again));
}

function colourOf(spend, key, index) {
  return spend.by === "supplier" ? colour(key) : token(COLOURS[index % COLOURS.length]);
}

function options({ spend, basis }, colours) {
  const label = (at) => new Date(at * 1000).toLocaleString("sv", spend.step_s >= 86400 ? { month: "2-digit", day: "2-digit", timeZone: "UTC" } : { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  const keys = [...new Set(spend.lines.map((line) => line.key))];
  const values = new Map(spend.lines.map((line) => [`${line.at} ${line.key}`, line[basis]]));
  const known = spend.lines.some((line) => line[basis] !== null);
  return {
    title: { text: known ? "" : spend.lines.length ? "Rent has no tenant and no lane: choose the marginal price." : "Nothing was spent in this time.", left: "center", top: "middle",
      textStyle: { color: colours.soft, fontSize: 14, fontWeight: 400 } },
    grid: GRID, xAxis: categoryAxis(colours, spend.at.map(label)), yAxis: valueAxis(colours, (value) => usd(value)),
    tooltip: tooltip("axis", { axisPointer: { type: "shadow" }, valueFormatter: (value) => usd(value) }),
    series: keys.map((key, index) => ({ name: key || "(none)", type: "bar", stack: "spend", barMaxWidth: 34, itemStyle: { color: colourOf(spend, key, index) },
      data: spend.at.map((at) => Number(values.get(`${at} ${key}`) ?? 0)) })),
  };
}

function saved(alone, basis) {
  if (!alone) return [h("p", { class: "soft" }, "Nothing was made in this time.")];
  const which = basis === "loaded_usd" ? "loaded" : "marginal";
  const cheapest = alone[`cheapest_${which}`];
  if (cheapest === null) return [h("p", {}, "No single supplier served every model, so there is nothing to compare with.")];
  const amount = Number(alone[`saved_${which}_usd`]);
  const paid = Number(alone[`paid_${which}_usd`]);
  const words = Math.abs(amount) < 5e-10 ? ["made no difference to the cost"] : [amount > 0 ? "saved " : "cost ", h("strong", {}, usd(Math.abs(amount)))];
  const rows = alone.suppliers.map((one) => [
    h("span", { class: `tag ${tint(one.supplier)}` }, h("span", { class: "dot", "aria-hidden": "true" }), one.supplier),
    one[`${which}_usd`] === null ? "served not every model" : usd(one[`${which}_usd`])]);
  return [
    h("p", { class: "sentence" }, "Beside ", h("strong", {}, cheapest), " alone, at its own price for a token, the other suppliers ", ...words, "."),
    h("p", { class: "soft" }, `Paid: ${usd(paid)}. All tokens of each model, made by one supplier alone:`),
    table(`All of it by one supplier, ${which}`, ["supplier", "#would have cost"], rows)];
}

function totalTable(spend, basis) {
  const sum = spend.totals.reduce((total, line) => total + Number(line[basis] ?? 0), 0);
  const million = (line, amount) => line.tokens_out && amount !== null ? usd(Number(amount) * 1e6 / line.tokens_out) : "–";
  return table(`Totals by ${spend.by}`,
    [spend.by, "#attempts", "#failed", "#tokens in", "#tokens out", "#marginal", "#tenants'", "#loaded", "#share", "#$/M out, marginal", "#$/M out, loaded"],
    spend.totals.map((line) => [line.key || "(none)", number(line.attempts, 0), number(line.failed, 0), number(line.tokens_in, 0), number(line.tokens_out, 0),
      usd(line.marginal_usd), usd(line.tenant_usd), line.loaded_usd === null ? "–" : usd(line.loaded_usd),
      sum ? percent(Number(line[basis] ?? 0) / sum, 1) : "–", million(line, line.marginal_usd), million(line, line.loaded_usd)]));
}

async function download(span, by) {
  const answer = await ask(`/console/api/spend.csv?span=${span}&by=${by}`);
  if (!answer.ok) throw new Error(await problem(answer));
  const link = h("a", { href: URL.createObjectURL(await answer.blob()), download: `spend-${span}-by-${by}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}
