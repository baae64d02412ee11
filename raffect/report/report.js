"use strict";
(function () {
  const root = document.documentElement;
  const options = { displayModeBar: false, responsive: true };
  const narrow = window.matchMedia("(max-width: 640px)");
  // On paper a figure is drawn flatter and larger than its place, and then shrunk with its texts.
  const SMALLER = 0.6;
  const FLATTER = 0.82;
  const shown = (plot) => plot.getClientRects().length > 0;
  const parsed = {};

  function json(id) {
    return (parsed[id] ??= JSON.parse(document.getElementById(id).textContent));
  }

  // Plotly reads a subset of HTML in labels; text from tables is only text.
  function safe(cell) {
    if (typeof cell !== "string") return cell;
    return cell.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function picked(trace, length) {
    const found = [];
    (trace.rows ?? [[0, length]]).forEach(([start, stop], index) => {
      if (trace.gaps && index) found.push(null);
      for (let row = start; row < stop; row++) found.push(row);
    });
    return found;
  }

  // A trace that names columns of a table gets their numbers; see tables.py.
  function filled(trace, tables) {
    if (!trace.table) return trace;
    const { table, columns, rows, gaps, ...whole } = trace;
    const source = tables[table];
    const indices = picked(trace, Object.values(source)[0].length);
    const column = (name) =>
      indices.map((row) => (row === null || name === null ? null : safe(source[name][row])));
    for (const [path, names] of Object.entries(columns)) {
      let values = Array.isArray(names) ? names.map(column) : column(names);
      if (path === "customdata") values = indices.map((_, i) => values.map((of) => of[i]));
      const keys = path.split(".");
      const last = keys.pop();
      const place = keys.reduce((inner, key) => (inner[key] = { ...inner[key] }), whole);
      place[last] = values;
    }
    return whole;
  }

  // Figures name colours as the style sheet does; they are resolved for the theme of the moment.
  function resolved(plot) {
    const style = getComputedStyle(root);
    const text = document.getElementById(plot.dataset.figure).textContent;
    const named = /"var\((--[a-z0-9-]+)\)"/g;
    const figure = JSON.parse(text.replace(named, (_, name) => JSON.stringify(style.getPropertyValue(name).trim())));
    figure.data = figure.data.map((trace) => filled(trace, json(plot.dataset.tables)));
    return figure;
  }

  function draw(plot) {
    const figure = resolved(plot);
    const width = Math.floor(plot.getBoundingClientRect().width);
    const share = root.classList.contains("printing") ? SMALLER : 1;
    if (width > 0) figure.layout.width = Math.floor(width / share);
    if (share < 1) figure.layout.height *= FLATTER;
    plot.style.minHeight = `${Math.ceil(figure.layout.height * share)}px`;
    plot.style.height = share < 1 ? plot.style.minHeight : "";
    Plotly.react(plot, figure.data, figure.layout, options);
    plot.firstElementChild.style.transformOrigin = "0 0";
    plot.firstElementChild.style.transform = share < 1 ? `scale(${share})` : "";
    plot.dataset.width = width;
  }

  function drawAll() {
    document.querySelectorAll(".plot").forEach((plot) => {
      // The others are drawn when they are shown.
      if (shown(plot)) draw(plot); else delete plot.dataset.width;
    });
  }

  function field(cell) {
    if (cell === null) return "";
    const text = String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  function csv(columns) {
    const lines = [Object.keys(columns).map(field).join(",")];
    const values = Object.values(columns);
    for (let row = 0; row < values[0].length; row++) {
      lines.push(values.map((column) => field(column[row])).join(","));
    }
    return lines.join("\n") + "\n";
  }

  // The numbers are in the page: the link becomes a file of them when it is followed.
  function save(event) {
    const link = event.target.closest("a.csv");
    if (!link) return;
    const anchor = link.cloneNode();
    const text = csv(json(link.getAttribute("href").slice(1))[link.dataset.table]);
    anchor.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    event.preventDefault();
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
  }

  function choose() {
    const links = [...document.querySelectorAll(".tabs a")];
    if (!links.length) return;
    const sweep = target()?.closest(".sweep");
    const wanted = links.find((link) => sweep && link.hash === `#${sweep.id}`) || links[0];
    links.forEach((link) => {
      const chosen = link === wanted;
      document.getElementById(link.hash.slice(1)).hidden = !chosen;
      if (chosen) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    drawAll();
  }

  function target() {
    return document.getElementById(decodeURIComponent(location.hash.slice(1)));
  }

  // On a narrow screen all but the leaderboard is folded; what is asked for is unfolded.
  function fold() {
    document.querySelectorAll(".fold").forEach((part) => {
      part.open = !narrow.matches || "kept" in part.dataset;
    });
    unfold();
  }

  function unfold() {
    const part = target()?.closest(".fold");
    if (!part || part.open) return;
    part.open = true;
    part.scrollIntoView();
  }

  function redrawChanged() {
    document.querySelectorAll(".plot").forEach((plot) => {
      const width = Math.floor(plot.getBoundingClientRect().width);
      if (width > 0 && String(width) !== plot.dataset.width) draw(plot);
    });
  }

  // Paper is light, as wide as a page, and shows every tab.
  let before = [];
  let folded = [];
  function print() {
    before = [...document.querySelectorAll(".sweep[hidden]")];
    before.forEach((section) => { section.hidden = false; });
    folded = [...document.querySelectorAll("details:not(.rest, [open])")];
    folded.forEach((details) => { details.open = true; });
    root.dataset.theme = "light";
    root.classList.add("printing");
    drawAll();
  }
  function printed() {
    before.forEach((section) => { section.hidden = true; });
    folded.forEach((details) => { details.open = false; });
    delete root.dataset.theme;
    root.classList.remove("printing");
    drawAll();
  }

  // Plotly is packed in the page, as it would be most of it.
  async function load() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  let waiting = 0;
  function start() {
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { if (!root.classList.contains("printing")) redrawChanged(); }, 120);
    });
    window.addEventListener("hashchange", () => { choose(); unfold(); });
    narrow.addEventListener("change", fold);
    document.addEventListener("toggle", redrawChanged, true);
    window.addEventListener("beforeprint", print);
    window.addEventListener("afterprint", printed);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    if (document.querySelector(".tabs")) choose(); else drawAll();
    fold();
    root.dataset.drawn = "true";
  }

  document.addEventListener("click", save);
  if ("DecompressionStream" in window) load().then(start);
  else document.getElementById("no-figures").hidden = false;
})();
