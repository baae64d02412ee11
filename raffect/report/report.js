"use strict";
(function () {
  const root = document.documentElement;
  const options = { displayModeBar: false, responsive: true };
  const shown = (element) => !element.closest("[hidden]");

  // Figures name colours as the style sheet does; they are resolved for the theme of the moment.
  function resolved(id) {
    const style = getComputedStyle(root);
    const text = document.getElementById(id).textContent;
    const named = /"var\((--[a-z0-9-]+)\)"/g;
    return JSON.parse(text.replace(named, (_, name) => JSON.stringify(style.getPropertyValue(name).trim())));
  }

  function draw(plot) {
    const figure = resolved(plot.dataset.figure);
    const width = Math.floor(plot.getBoundingClientRect().width);
    if (width > 0) figure.layout.width = width;
    Plotly.react(plot, figure.data, figure.layout, options);
    plot.dataset.width = width;
  }

  function drawAll() {
    document.querySelectorAll(".plot").forEach((plot) => { if (shown(plot)) draw(plot); });
  }

  function choose() {
    const links = [...document.querySelectorAll(".tabs a")];
    if (!links.length) return;
    const wanted = links.find((link) => link.hash === location.hash) || links[0];
    links.forEach((link) => {
      const chosen = link === wanted;
      document.getElementById(link.hash.slice(1)).hidden = !chosen;
      if (chosen) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    drawAll();
  }

  function redrawChanged() {
    document.querySelectorAll(".plot").forEach((plot) => {
      const width = Math.floor(plot.getBoundingClientRect().width);
      if (shown(plot) && width > 0 && String(width) !== plot.dataset.width) draw(plot);
    });
  }

  // Paper is light, as wide as a page, and shows every tab.
  let before = [];
  function print() {
    before = [...document.querySelectorAll(".sweep[hidden]")];
    before.forEach((section) => { section.hidden = false; });
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    root.dataset.theme = "light";
    root.classList.add("printing");
    drawAll();
  }
  function printed() {
    before.forEach((section) => { section.hidden = true; });
    delete root.dataset.theme;
    root.classList.remove("printing");
    drawAll();
  }

  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (!root.classList.contains("printing")) redrawChanged(); }, 120);
  });
  window.addEventListener("hashchange", choose);
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", printed);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  if (document.querySelector(".tabs")) choose(); else drawAll();
})();
