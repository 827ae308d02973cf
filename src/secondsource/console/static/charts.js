// Charts by Apache ECharts, which is loaded when the first one is wanted; colours and words are the page's.
import { h } from "./dom.js";
import { token } from "./colours.js";

let library = null;

async function echarts() {
  library ??= await import("./echarts.min.js");
  return library;
}

// A chart that follows its box and the theme: `describe` returns ECharts' options for what was given to `set`.
export class Chart {
  constructor(here, label, describe, size = "") {
    this.element = h("div", { class: `chart ${size}`, role: "img", "aria-label": label });
    this.describe = describe;
    this.given = undefined;
    this.chart = null;
    this.clickAction = null;
    const redraw = () => this.draw(true);
    window.addEventListener("theme", redraw);
    const sizes = new ResizeObserver(() => this.chart?.resize());
    sizes.observe(this.element);
    here.onLeave(() => {
      window.removeEventListener("theme", redraw);
      sizes.disconnect();
      this.chart?.dispose();
      this.gone = true;
    });
  }

  set(given) {
    this.given = given;
    this.draw(false);
  }

  onClick(action) {
    this.clickAction = action;
  }

  async draw(anew) {
    if (this.given === undefined) return;
    const { init } = await echarts();
    if (this.gone || !this.element.isConnected) return;
    if (!this.chart) {
      this.chart = init(this.element, null, { renderer: "canvas" });
      this.chart.on("click", (event) => this.clickAction?.(event));
    }
    this.chart.setOption({ ...common(), ...this.describe(this.given, palette()) }, { notMerge: anew, replaceMerge: ["series"] });
  }
}

export function palette() {
  return { ink: token("--ink"), soft: token("--soft"), line: token("--line"), card: token("--card"), accent: token("--accent"),
    bad: token("--bad"), edge: token("--edge") };
}

function common() {
  const { ink, soft } = palette();
  return {
    animation: false,
    textStyle: { color: ink, fontFamily: "system-ui, sans-serif", fontSize: 12 },
    aria: { enabled: false }, // the element has a label of its own, and a table beside it
    tooltip: tooltip("item"),
    legend: { top: 0, right: 0, itemWidth: 14, itemHeight: 8, textStyle: { color: soft, fontSize: 12 }, type: "scroll" },
  };
}

// Drawn on the canvas: HTML in a tooltip would need styles that the page's policy forbids.
export function tooltip(trigger, more = {}) {
  const { ink, card, line } = palette();
  return { trigger, renderMode: "richText", confine: true, backgroundColor: card, borderColor: line, textStyle: { color: ink, fontSize: 12 }, ...more };
}

export function timeAxis(colours) {
  return { type: "time", axisLine: { lineStyle: { color: colours.line } }, axisTick: { show: false }, splitLine: { show: false },
    axisLabel: { color: colours.soft, hideOverlap: true, formatter: "{HH}:{mm}" } };
}

export function valueAxis(colours, formatter) {
  return { type: "value", min: 0, axisLabel: { color: colours.soft, formatter }, splitLine: { lineStyle: { color: colours.line } }, splitNumber: 3 };
}

// Durations lie decades apart: what is promised shall be in sight beside what is measured.
export function logAxis(colours, formatter, shown) {
  const promised = shown.filter((value) => value !== null);
  return { type: "log", min: (range) => 10 ** Math.floor(Math.log10(Math.max(1e-4, Math.min(range.min, ...promised)))),
    max: (range) => 10 ** Math.ceil(Math.log10(Math.max(range.max, 1e-3, ...promised)) + 1e-9),
    axisLabel: { color: colours.soft, formatter }, splitLine: { lineStyle: { color: colours.line } } };
}

export function categoryAxis(colours, data) {
  return { type: "category", data, axisLine: { lineStyle: { color: colours.line } }, axisTick: { show: false }, axisLabel: { color: colours.soft, hideOverlap: true } };
}

export const GRID = { left: 8, right: 12, top: 34, bottom: 4, containLabel: true };
