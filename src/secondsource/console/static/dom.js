// Elements, numbers and times. Nothing here knows what it shows.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function table(caption, headings, rows, empty = "nothing yet") {
  const numeric = headings.map((heading) => heading.startsWith("#"));
  const cell = (value, column) => h("td", { class: numeric[column] ? "number" : undefined }, value ?? "–");
  const body = rows.length
    ? rows.map((row) => h("tr", {}, row.map(cell)))
    : [h("tr", {}, h("td", { colspan: headings.length, class: "soft" }, empty))];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, headings.map((heading, column) =>
        h("th", { scope: "col", class: numeric[column] ? "number" : undefined }, heading.replace("#", ""))))),
      h("tbody", {}, body)));
}

const NONE = "–";
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function number(value, digits = 1) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) >= 1000 ? grouped.format(value) : String(Number(value.toFixed(digits)));
}

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 1) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
  return value < 120 ? `${value.toFixed(2)} s` : `${(value / 60).toFixed(1)} min`;
}

export function usd(value, digits) {
  if (value === null || value === undefined) return NONE;
  const amount = Number(value);
  if (amount === 0) return "$0.00";
  const size = Math.abs(amount);
  const places = digits ?? (size >= 100 ? 0 : size >= 1 ? 2 : Math.min(9, 1 - Math.floor(Math.log10(size)) + 1));
  return amount.toLocaleString("en", { style: "currency", currency: "USD", minimumFractionDigits: Math.min(places, 2),
    maximumFractionDigits: places });
}

export function percent(value, digits = 0) {
  return value === null || value === undefined ? NONE : `${(value * 100).toFixed(digits)}%`;
}

export function clock(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

export function moment(at) {
  const date = new Date(at);
  return `${date.toLocaleDateString("sv")} ${date.toLocaleTimeString("en-GB")}`;
}

export function option(value, text = value) {
  return h("option", { value }, text);
}
