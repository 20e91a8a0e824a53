"use strict";

const byId = (id) => document.getElementById(id);
const dataOf = (id) => byId(id) && JSON.parse(byId(id).textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const matches = (text, wanted) => text.toLowerCase().includes(wanted.trim().toLowerCase());
const shorten = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// ---- tables: clicking a heading sorts, an input field filters

function sortBy(table, heading) {
  const column = [...heading.parentNode.children].indexOf(heading);
  const isNumber = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort");
  // By default numbers are sorted in descending order, text from A to Z.
  const isDown = before ? before === "ascending" : isNumber;
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const keyOf = (row) => {
    const cell = row.children[column];
    return isNumber ? Number(cell.dataset.value) : cell.textContent;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row), row]);
  const order = isNumber ? (a, b) => a[0] - b[0] || 0 : (a, b) => a[0].localeCompare(b[0], "en", { numeric: true });
  rows.sort((a, b) => (isDown ? order(b, a) : order(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable"))
  for (const heading of table.tHead.rows[0].cells)
    heading.firstElementChild.addEventListener("click", () => sortBy(table, heading));

for (const field of document.querySelectorAll("input[data-filters]")) {
  const rows = byId(field.dataset.filters).tBodies[0].rows;
  const says = document.querySelector(`output[data-counts="${field.dataset.filters}"]`);
  field.addEventListener("input", () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !matches(row.textContent, field.value);
      shown += !row.hidden;
    }
    says.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  });
}

// ---- canvases, at the resolution of the screen

function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

function redrawWhenNeeded(element, draw) {
  new ResizeObserver(draw).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
