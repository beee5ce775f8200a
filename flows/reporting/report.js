"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const one = (id) => document.getElementById(id);

  // Worklist: filter, page, select, copy.
  const list = document.querySelector(".items");
  const items = all(".item");
  let expanded = false;

  const box = (item) => item.querySelector(".pick input");
  const chosen = (id) => (one(id) ? one(id).value : "");
  const matching = () => {
    const label = chosen("by-label"), flag = chosen("by-flag"), status = chosen("by-status");
    return items.filter((item) =>
      (!label || JSON.parse(item.dataset.labels).includes(label)) &&
      (!flag || JSON.parse(item.dataset.flags).includes(flag)) &&
      (!status || item.dataset.status === status));
  };

  const refresh = () => {
    if (!list) return;
    const match = matching();
    const first = expanded ? match.length : Number(list.dataset.first);
    const shown = new Set(match.slice(0, first));
    for (const item of items) item.hidden = !shown.has(item);
    const picked = match.filter((item) => box(item).checked).length;
    one("matching").textContent = match.length === items.length ? "" : `${match.length} of ${items.length} match`;
    one("no-match").hidden = match.length > 0;
    one("show-all").hidden = match.length <= first;
    one("show-all").textContent = `Show all ${match.length}`;
    one("copy-ids").disabled = match.length === 0;
    one("copy-ids").textContent = picked ? `Copy ${picked} selected` : `Copy all ${match.length} ids`;
    one("select-all").checked = picked > 0 && picked === match.length;
    one("select-all").indeterminate = picked > 0 && picked < match.length;
  };

  const copy = async (text, button) => {
    const before = button.textContent;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no clipboard without a secure page: the older way, then by hand
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "by-hand";
      button.after(area);
      area.select();
      done = document.execCommand("copy");
      if (done) area.remove();
    }
    const count = text.split("\n").length;
    button.textContent = done ? `copied ${count > 1 ? count + " ids" : ""}` : "press Ctrl+C";
    setTimeout(() => { button.textContent = before; if (button.id === "copy-ids") refresh(); }, 1500);
  };

  if (list) {
    for (const id of ["by-label", "by-flag", "by-status"]) one(id)?.addEventListener("change", refresh);
    one("show-all").addEventListener("click", () => { expanded = true; refresh(); });
    one("select-all").addEventListener("change", (event) => {
      for (const item of matching()) box(item).checked = event.target.checked;
      refresh();
    });
    list.addEventListener("change", refresh);
    one("copy-ids").addEventListener("click", (event) => {
      const match = matching();
      const picked = match.filter((item) => box(item).checked);
      copy((picked.length ? picked : match).map((item) => item.dataset.id).join("\n"), event.currentTarget);
    });
  }
  document.addEventListener("click", (event) => {
    if (event.target.matches("button.copy")) copy(event.target.dataset.copy, event.target);
  });

  // A link to a sample shows it, whatever is filtered or paged away.
  const reveal = () => {
    let id;
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { return; }
    if (!id.startsWith("s-")) return;
    const item = one(id);
    if (!item) return;
    if (item.hidden) {
      for (const filter of ["by-label", "by-flag", "by-status"]) if (one(filter)) one(filter).value = "";
      expanded = true;
      refresh();
    }
    all(".item.target").forEach((other) => other.classList.remove("target"));
    item.classList.add("target");
    item.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);

  // Tables: sort by a click on the column's head; numbers by value, words by the reader's alphabet.
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const x = Number(a.replaceAll(",", "")), y = Number(b.replaceAll(",", ""));
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = Array.from(table.tBodies[0].rows);
        rows.sort((a, b) => (down ? -1 : 1) * compare(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // The contents show where one is.
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -70% 0px" });
  all("main > section").forEach((section) => watcher.observe(section));

  // Figures, one after the other so that the page answers meanwhile. `ast` keeps eval out of it.
  const draw = async () => {
    for (const place of all("[data-spec]")) {
      const spec = JSON.parse(one(place.dataset.spec).textContent);
      await window.vegaEmbed(place, spec, {
        actions: false, ast: true, renderer: "svg", defaultStyle: false, tooltip: { theme: "report" },
      });
      place.classList.add("drawn");
    }
    root.dataset.ready = "true";
  };

  refresh();
  reveal();
  draw();
})();
