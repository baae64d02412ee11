// Fetches the live part again, and puts in only what has changed: nothing flickers or jumps.
(() => {
  "use strict";
  const EVERY_MS = 3000;
  const live = document.getElementById("live");
  const trouble = document.getElementById("trouble");
  if (!live) return;
  const url = new URL(location.pathname, location.origin);
  new URLSearchParams(location.search).forEach((value, name) => url.searchParams.append(name, value));
  url.searchParams.set("part", "live");
  let tag = null;
  let failures = 0;
  let since = new Date();

  const parts = (root) => [...root.children].filter((child) => child.dataset.part);
  const known = new Map(parts(live).map((part) => [part.dataset.part, part.outerHTML]));

  // The index can be filtered by words; what is chosen for comparison stays so.
  const filter = document.getElementById("filter");
  function narrow() {
    if (!filter) return;
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...live.querySelectorAll("tbody tr")];
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
    const none = document.getElementById("none");
    none.hidden = !rows.length || rows.some((row) => !row.hidden);
    document.getElementById("chosen").disabled = live.querySelectorAll("input:checked").length < 2;
  }
  if (filter) {
    filter.parentElement.hidden = false;
    filter.addEventListener("input", narrow);
    live.addEventListener("change", narrow);
  }

  function put(text) {
    const chosen = new Set([...live.querySelectorAll("input:checked")].map((box) => box.value));
    const fresh = document.createElement("template");
    fresh.innerHTML = text;
    const found = parts(fresh.content);
    const old = new Map(parts(live).map((part) => [part.dataset.part, part]));
    const wanted = new Set(found.map((part) => part.dataset.part));
    old.forEach((part, name) => { if (!wanted.has(name)) { part.remove(); known.delete(name); } });
    let before = null;
    found.forEach((part) => {
      const name = part.dataset.part;
      const html = part.outerHTML;
      let here = old.get(name);
      if (!here) {
        if (before) before.after(part); else live.prepend(part);
        here = part;
      } else if (known.get(name) !== html) {
        const scrolled = [...here.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
        const focused = here.contains(document.activeElement);
        here.replaceWith(part);
        part.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
        if (focused) { const box = part.querySelector(".scroll, a"); if (box) box.focus({ preventScroll: true }); }
        here = part;
      }
      known.set(name, html);
      before = here;
    });
    live.querySelectorAll("input").forEach((box) => { box.checked = chosen.has(box.value); });
    narrow();
    times();
  }

  const STEPS = [[60, 1, "second"], [3600, 60, "minute"], [86400, 3600, "hour"], [Infinity, 86400, "day"]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  function times() {
    document.querySelectorAll("time").forEach((time) => {
      const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
      const [, size, unit] = STEPS.find(([most]) => Math.abs(seconds) < most);
      const text = words.format(Math.round(seconds / size), unit);
      if (!time.title) time.title = new Date(time.dateTime).toLocaleString();
      if (time.textContent !== text) time.textContent = text;
    });
  }

  function say(text) {
    trouble.textContent = text;
    trouble.hidden = !text;
  }

  async function look() {
    try {
      const answer = await fetch(url, { cache: "no-cache", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(answer.status === 404 ? "gone" : `status ${answer.status}`);
        put(await answer.text());
        tag = answer.headers.get("ETag");
      }
      failures = 0;
      since = new Date();
      say("");
    } catch (error) {
      failures += 1;
      if (error.message === "gone") say("The store holds this sweep no longer.");
      else if (failures > 1) say(`Not current: no answer since ${since.toLocaleTimeString()}. Looking again.`);
    }
    times();
  }

  async function keep() {
    if (!document.hidden) await look();
    setTimeout(keep, EVERY_MS * Math.min(Math.max(failures, 1), 5));
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  narrow();
  times();
  setTimeout(keep, EVERY_MS);
})();
