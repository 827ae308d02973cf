// One colour for each supplier, the same on every page; the style sheet has them for light and dark.

const COLOURS = 8;
let places = new Map();

export function place(suppliers) {
  places = new Map(suppliers.map((name, index) => [name, index % COLOURS + 1]));
}

export function tint(supplier) {
  return `s${places.get(supplier) ?? 0}`;
}

export function colour(supplier) {
  return token(`--${tint(supplier)}`);
}

// A colour of the style sheet as it is in the theme that is shown, for charts.
export function token(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
