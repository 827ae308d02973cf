// The frame: pages by the address after '#', the theme, one live connection for whichever page wants it.
import { h } from "./dom.js";
import { get, watch } from "./api.js";
import { place } from "./colours.js";

const PAGES = [
  ["chat", "Chat", () => import("./chat.js")],
  ["now", "Now", () => import("./now.js")],
  ["spend", "Spend", () => import("./spend.js")],
  ["plan", "Plan", () => import("./plan.js")],
  ["requests", "Requests", () => import("./requests.js")],
];
const THEMES = ["auto", "light", "dark"];
const THEME_NAMES = { auto: "as the system's", light: "light", dark: "dark" };
const THEME_SIGNS = { auto: "◐", light: "☀", dark: "☾" };

const main = document.getElementById("main");
const live = document.getElementById("live");
let about = null;
let leave = () => {};
let turn = 0;

function buildFrame() {
  document.getElementById("pages").append(...PAGES.map(([name, title]) => h("a", { href: `#/${name}` }, title)));
  const button = document.getElementById("theme");
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = THEME_SIGNS[theme];
    button.setAttribute("aria-label", `Theme: ${THEME_NAMES[theme]}`);
    button.title = `Theme: ${THEME_NAMES[theme]}`;
  };
  let theme = localStorage.getItem("secondsource theme") ?? "auto";
  show(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem("secondsource theme", theme);
    show(theme);
    window.dispatchEvent(new Event("theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("theme")));
}

// A page's own: watch while it is shown, know what the fleet is, and when it is left.
function context(parameters) {
  const leaving = [];
  return {
    about,
    parameters,
    onLeave: (action) => leaving.push(action),
    watchNow: (onNow) => leaving.push(watch("/console/api/now/events", onNow, showLive)),
    leave: () => leaving.splice(0).forEach((action) => action()),
  };
}

function showLive(connected) {
  live.textContent = connected ? "live" : "reconnecting …";
  live.className = connected ? "live on" : "live off";
}

async function show() {
  const mine = ++turn;
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, title, load] = PAGES.find(([known]) => known === path) ?? PAGES[0];
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · secondsource`;
  leave();
  leave = () => {};
  live.textContent = "";
  live.className = "live";
  try {
    const loading = load();
    about ??= await get("/console/api/about");
    place(about.suppliers);
    const page = await loading;
    if (mine !== turn) return;
    const here = context(new URLSearchParams(query));
    leave = here.leave;
    main.replaceChildren(h("h1", { class: page.quietTitle ? "hidden" : undefined }, title));
    main.className = `page-${name}`;
    await page.show(main, here);
  } catch (error) {
    if (mine === turn) main.replaceChildren(h("p", { class: "problem", role: "alert" }, `This page cannot be shown: ${error.message}`));
  }
}

buildFrame();
window.addEventListener("hashchange", () => show().then(() => main.focus({ preventScroll: true })));
show();
