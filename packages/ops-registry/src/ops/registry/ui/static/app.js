// Keys, choosing and comparing runs, columns, colours. The pages work without it, but for the charts.
"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  function toggleTheme() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    document.dispatchEvent(new Event("theme"));
  }

  // Chosen runs stay chosen on other pages of the table, until they are cleared.
  const CHOSEN = "chosen " + location.pathname;
  const chosen = () => JSON.parse(sessionStorage.getItem(CHOSEN) || "[]");

  function choose() {
    const here = new Map(all("input.one").map((box) => [box.value, box.checked]));
    const kept = [...new Set([...chosen(), ...here.keys()])].filter((id) => here.get(id) ?? true);
    sessionStorage.setItem(CHOSEN, JSON.stringify(kept));
    count();
  }

  function count() {
    const button = one("#compare");
    if (!button) return;
    const ids = new Set(chosen());
    all("input.one").forEach((box) => (box.checked = ids.has(box.value)));
    one("#chosen").textContent = ids.size;
    button.disabled = ids.size < 2;
    one("#unchoose").hidden = !ids.size;
  }

  function compare() {
    if (chosen().length > 1) location.href = "/compare?runs=" + chosen().map(encodeURIComponent).join(",");
  }

  function move(step) {
    const rows = all("table.rows tbody tr");
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("here"));
    const next = Math.min(Math.max(at + step, 0), rows.length - 1);
    rows.forEach((row, i) => row.classList.toggle("here", i === next));
    rows[next].scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "all") all("input.one").forEach((box) => (box.checked = event.target.checked));
    if (event.target.matches("#all, .one")) choose();
    if (event.target.id === "only-differing") all("tr.same").forEach((row) => row.classList.toggle("hidden", event.target.checked));
  });

  document.addEventListener("click", (event) => {
    const id = event.target.id;
    if (id === "theme") toggleTheme();
    if (id === "help") one("#keys").showModal();
    if (id === "compare" || event.target.closest("#compare")) compare();
    if (id === "unchoose") { sessionStorage.removeItem(CHOSEN); count(); }
    if (id === "apply") {
      const boxes = all("#choose input[type=checkbox]");
      const kept = boxes.filter((box) => box.checked).map((box) => encodeURIComponent(box.value));
      applyColumns(kept.length === boxes.length ? "*" : kept.join(","));
    }
    const columns = event.target.dataset?.columns;
    if (columns === "usual") applyColumns("");
    else if (columns) all("#choose label:not([hidden]) input").forEach((box) => (box.checked = columns === "all"));
    if (event.target.matches("#names button")) complete(event.target.textContent);
  });
  function applyColumns(text) {
    one("#columns").value = text;
    one("#search").requestSubmit();
  }

  document.addEventListener("click", (event) => { // sort by one more column
    const add = event.shiftKey && event.target.closest("a[data-add]");
    if (!add) return;
    event.preventDefault();
    event.stopPropagation();
    location.href = add.dataset.add;
  }, true);

  document.addEventListener("input", (event) => {
    if (event.target.id === "find-column") {
      const text = event.target.value.trim().toLowerCase();
      all("#choose label").forEach((label) => (label.hidden = !label.textContent.toLowerCase().includes(text)));
    }
    if (event.target.id === "filter") suggest(event.target);
  });

  const WORD = /[\w./:-]*$/; // what is being typed
  function suggest(field) {
    const box = one("#names");
    if (!box) return;
    const word = field.value.slice(0, field.selectionStart).match(WORD)[0].toLowerCase();
    const found = word ? JSON.parse(box.dataset.names).filter((name) => name.toLowerCase().includes(word) && name.toLowerCase() !== word).slice(0, 8) : [];
    box.hidden = !found.length;
    box.replaceChildren(...found.map((name) => Object.assign(document.createElement("button"), { type: "button", textContent: name })));
  }
  function complete(name) {
    const field = one("#filter"), at = field.selectionStart;
    const before = field.value.slice(0, at).replace(WORD, name + " ");
    field.value = before + field.value.slice(at);
    field.focus();
    field.setSelectionRange(before.length, before.length);
    one("#names").hidden = true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const here = one("tr.here");
    const act = {
      "/": () => one("#filter, #metric")?.focus(),
      j: () => move(1),
      k: () => move(-1),
      Enter: () => !event.target.matches("a, button, input, summary") && here?.querySelector("a")?.click(),
      x: () => here?.querySelector("input.one")?.click(),
      c: compare,
      t: toggleTheme,
      "?": () => one("#keys").showModal(),
      "[": () => one("#previous")?.click(),
      "]": () => one("#next")?.click(),
    }[event.key];
    if (act) {
      if (event.key === "/") event.preventDefault();
      act();
    }
  });

  // The sort order lives in the table's links; the form must send the same one, from when it is seen.
  document.addEventListener("htmx:afterSwap", () => {
    const query = new URLSearchParams(location.search);
    if (one("#order")) one("#order").value = query.get("order") || "";
    count();
  });
  for (const event of ["htmx:sendError", "htmx:responseError"]) document.addEventListener(event, ({ detail }) => {
    one("#unanswered")?.remove();
    const note = Object.assign(document.createElement("p"), { id: "unanswered", className: "problem", role: "alert" });
    const status = detail.xhr?.status;
    note.textContent = status ? `The server could not answer (${status}).` : "The server does not answer. Is it still running?";
    (one("#runs") || one("#traces") || one("#span"))?.prepend(note);
  });
  // What charts draw is in the address, and stays in it where a link or a form leads to other runs.
  const CHARTS = ["x", "smooth", "log", "average", "metric", "hidden", "group"];
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-keeps-charts]")) return;
    event.preventDefault();
    const query = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value));
    keepCharts(query);
    location.href = event.target.getAttribute("action") + "?" + query;
  });
  function keepCharts(query) {
    const now = new URLSearchParams(location.search);
    for (const name of CHARTS) if (name !== "group" && now.has(name)) query.set(name, now.get(name));
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-keeps-charts]");
    if (!link) return;
    const query = new URLSearchParams(link.search);
    keepCharts(query);
    const group = new URLSearchParams(location.search).get("group");
    if (group) query.set("group", group);
    link.search = query;
  });
  document.addEventListener("submit", (event) => { // the view as it is now, not as it was loaded
    if (event.target.matches("form[data-saves-view]")) event.target.elements.query.value = location.search;
  });
  document.addEventListener("change", (event) => event.target.matches("[data-submits]") && event.target.form.requestSubmit());
  document.addEventListener("click", (event) => { // the other view of the same runs, as they are searched and sorted now
    const tab = event.target.closest("a[data-view]");
    if (tab) tab.search = location.search;
  });

  document.addEventListener("click", (event) => { // hide or show the spans below one
    const fold = event.target.closest?.(".fold");
    if (!fold) return;
    const row = fold.closest("tr"), depth = Number(row.dataset.depth), open = fold.getAttribute("aria-expanded") !== "true";
    fold.setAttribute("aria-expanded", open);
    let closed = Infinity; // the depth of a span below whose own are hidden
    for (let next = row.nextElementSibling; next && Number(next.dataset.depth) > depth; next = next.nextElementSibling) {
      const at = Number(next.dataset.depth);
      if (at <= closed) closed = Infinity;
      next.hidden = !open || at > closed;
      if (open && closed === Infinity && next.querySelector('.fold[aria-expanded="false"]')) closed = at;
    }
  });
  document.addEventListener("click", (event) => { // a span is shown beside the others, which stay where they are
    const link = event.target.closest?.("a[data-span]");
    if (!link || !one("#span") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.href);
    markSpan();
    window.htmx.ajax("GET", link.href.split("#")[0], { target: "#span", swap: "innerHTML" }).then(() => one("#span-name")?.focus());
  });
  function markSpan() {
    const id = new URLSearchParams(location.search).get("span");
    for (const row of all(".spans tbody tr")) {
      const link = row.querySelector("a[data-span]");
      row.classList.toggle("here", !!id && !!link && new URLSearchParams(link.search).get("span") === id);
    }
  }
  if (one(".spans")) markSpan();

  addEventListener("pageshow", count); // a browser that goes back ticks the boxes that were
  one("#only-differing")?.dispatchEvent(new Event("change", { bubbles: true }));
})();
