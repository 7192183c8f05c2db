"use strict";
(function () {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
  };
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const sort = (table, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const missing = (text) => text === "" || text === "–";
    rows.sort((left, right) => {
      const a = value(left, header.cellIndex), b = value(right, header.cellIndex);
      if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
      return (down ? -1 : 1) * compare(a, b);
    });
    rows.forEach((row) => body.appendChild(row));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((header) => {
      const button = document.createElement("button");
      button.type = "button";
      while (header.firstChild) button.appendChild(header.firstChild);
      header.appendChild(button);
      button.addEventListener("click", () => sort(table, header));
    });
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll(".term").forEach((each) => each.classList.add("shut"));
  });
  document.querySelectorAll(".term").forEach((each) => {
    ["pointerleave", "blur"].forEach((kind) => each.addEventListener(kind, () => each.classList.remove("shut")));
  });
  // Fixed to the window, so that neither a table's scrolling nor the right edge cuts it off.
  const placed = (event) => {
    const tip = event.currentTarget.querySelector('[role="tooltip"]');
    const word = event.currentTarget.getBoundingClientRect();
    tip.style.position = "fixed";
    tip.style.insetInlineStart = "auto";
    tip.style.left = Math.max(8, Math.min(word.left, window.innerWidth - tip.offsetWidth - 24)) + "px";
    const below = word.bottom + 4;
    tip.style.top = (below + tip.offsetHeight > window.innerHeight ? word.top - tip.offsetHeight - 4 : below) + "px";
  };
  document.querySelectorAll(".term").forEach((each) => {
    ["pointerenter", "focus"].forEach((kind) => each.addEventListener(kind, placed));
  });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
  });
})();
