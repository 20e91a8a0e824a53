"use strict";

const byId = (id) => document.getElementById(id);
const dataOf = (id) => byId(id) && JSON.parse(byId(id).textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const matches = (text, wanted) => text.toLowerCase().includes(wanted.trim().toLowerCase());
const shorten = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// ---- tables: a click on a heading sorts, a field filters

function sortBy(table, heading) {
  const column = [...heading.parentNode.children].indexOf(heading);
  const isNumber = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort");
  // Numbers start with the largest, text with A.
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
    says.textContent = shown === rows.length ? `rows: ${rows.length}` : `rows: ${shown} of ${rows.length}`;
  });
}

// ---- canvases: as sharp as the screen

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

// ---- confusion matrix: the canvas stays in view while an empty room of the matrix's full size scrolls below it

function confusionMatrix(data) {
  const box = byId("matrix"), room = byId("matrix-room"), canvas = byId("matrix-canvas"), says = byId("matrix-says");
  const order = byId("matrix-order"), filter = byId("matrix-filter");
  const LABELLED = 11; // pixels of a cell from which on there is room for names
  const rowsOf = new Map(data.names.map((_, c) => [c, new Map()]));
  for (let i = 0; i < data.cells.length; i += 3) rowsOf.get(data.cells[i]).set(data.cells[i + 1], data.cells[i + 2]);
  const FONT = "11px system-ui, DejaVu Sans, sans-serif";
  let classes, place, cell, pen, widest;

  const margin = () => (cell < LABELLED ? 4 : Math.max(90, Math.min(widest + 8, box.clientWidth * 0.36, 210)));

  function choose() {
    const wanted = filter.value;
    const named = new Set(data.orders.listed.filter((c) => matches(data.names[c], wanted)));
    const kept = new Set(named);
    if (wanted.trim())
      // with what they are called, and what is called so
      for (const [row, columns] of rowsOf)
        for (const column of columns.keys()) {
          if (named.has(row)) kept.add(column);
          if (named.has(column)) kept.add(row);
        }
    classes = data.orders[order.value].filter((c) => kept.has(c));
    place = new Map(classes.map((c, i) => [c, i]));
    pen = canvas.getContext("2d");
    pen.font = FONT;
    widest = Math.max(0, ...classes.map((c) => pen.measureText(data.names[c]).width));
    box.scrollTo(0, 0);
    fitAll();
  }

  function fitAll() {
    cell = 1;
    if (classes.length) {
      const side = Math.min(box.clientWidth, parseFloat(getComputedStyle(box).maxHeight) - 4); // less the borders
      cell = Math.max(1, Math.min(32, (side - 8) / classes.length));
      if (cell >= LABELLED * 0.7 || filter.value.trim()) {
        cell = LABELLED; // for the margin's sake
        cell = Math.max(LABELLED, Math.min(32, (side - margin() - 4) / classes.length));
      }
    }
    draw();
  }

  function draw() {
    if (!box.clientWidth) return;
    const edge = margin(), full = edge + cell * classes.length + 4;
    room.style.width = room.style.height = `${full}px`;
    const width = box.clientWidth, height = box.clientHeight;
    pen = fit(canvas, Math.min(width, full), Math.min(height, full));
    const left = edge - box.scrollLeft, top = edge - box.scrollTop;
    const first = (scroll) => Math.max(0, Math.floor(scroll / cell));
    const last = (scroll, size) => Math.min(classes.length, Math.ceil((scroll + size - edge) / cell) + 1);
    const [r0, r1] = [first(box.scrollTop), last(box.scrollTop, height)];
    const [c0, c1] = [first(box.scrollLeft), last(box.scrollLeft, width)];
    const size = cell > 4 ? cell - 1 : Math.max(cell, 1);
    pen.fillStyle = colour("--panel");
    pen.fillRect(left + c0 * cell, top + r0 * cell, (c1 - c0) * cell, (r1 - r0) * cell);
    const right = colour("--right-rgb"), wrong = colour("--wrong-rgb");
    for (let r = r0; r < r1; r++)
      for (const [column, count] of rowsOf.get(classes[r])) {
        const c = place.get(column);
        if (c === undefined || c < c0 || c >= c1) continue;
        const strength = Math.sqrt(count / data.totals[classes[r]]);
        const isRight = column === classes[r];
        // In a matrix of many classes a wrong cell would be too small and faint to be seen.
        const [side, least] = isRight || cell > 4 ? [size, 0.15] : [Math.max(cell, 2.5), 0.4];
        pen.fillStyle = `rgba(${isRight ? right : wrong}, ${least + (1 - least) * strength})`;
        pen.fillRect(left + c * cell, top + r * cell, side, side);
      }
    if (cell >= LABELLED) drawLabels(edge, left, top, r0, r1, c0, c1);
  }

  function drawLabels(edge, left, top, r0, r1, c0, c1) {
    pen.fillStyle = colour("--back");
    pen.fillRect(0, 0, edge, canvas.height);
    pen.fillRect(0, 0, canvas.width, edge);
    pen.fillStyle = colour("--text");
    pen.font = FONT;
    pen.textBaseline = "middle";
    const name = (c) => {
      const text = data.names[classes[c]], share = (edge - 8) / pen.measureText(text).width;
      return share >= 1 ? text : shorten(text, Math.floor(text.length * share));
    };
    pen.save();
    pen.beginPath(); // a row half scrolled away takes its name with it, and not into the corner
    pen.rect(0, edge, edge, canvas.height);
    pen.clip();
    pen.textAlign = "right";
    for (let r = r0; r < r1; r++) pen.fillText(name(r), edge - 4, top + (r + 0.5) * cell);
    pen.restore();
    pen.save();
    pen.beginPath();
    pen.rect(edge, 0, canvas.width, edge);
    pen.clip();
    pen.textAlign = "left";
    for (let c = c0; c < c1; c++) {
      pen.save();
      pen.translate(left + (c + 0.5) * cell, edge - 4);
      pen.rotate(-Math.PI / 2);
      pen.fillText(name(c), 0, 0);
      pen.restore();
    }
    pen.restore();
    pen.fillStyle = colour("--faint");
    pen.textAlign = "right";
    pen.fillText("true ↓  called →", edge - 4, 10);
  }

  function point(event) {
    const frame = canvas.getBoundingClientRect(), edge = margin();
    const c = Math.floor((event.clientX - frame.left - edge + box.scrollLeft) / cell);
    const r = Math.floor((event.clientY - frame.top - edge + box.scrollTop) / cell);
    const inside = event.clientX - frame.left >= edge && event.clientY - frame.top >= edge;
    if (!inside || !(c in classes) || !(r in classes)) return;
    const [row, column] = [classes[r], classes[c]];
    const count = rowsOf.get(row).get(column) || 0, total = data.totals[row];
    const share = total ? ` (${((100 * count) / total).toFixed(1)}%)` : "";
    says.textContent = `${data.names[row]}, called ${data.names[column]}: ${count} of ${total}${share}`;
  }

  function zoom(factor) {
    const edge = margin(), x = (box.scrollLeft + (box.clientWidth - edge) / 2) / cell;
    const y = (box.scrollTop + (box.clientHeight - edge) / 2) / cell;
    cell = Math.max(1, Math.min(40, cell * factor));
    draw();
    const now = margin();
    box.scrollTo(x * cell - (box.clientWidth - now) / 2, y * cell - (box.clientHeight - now) / 2);
    draw();
  }

  order.addEventListener("change", choose);
  filter.addEventListener("input", choose);
  byId("matrix-in").addEventListener("click", () => zoom(1.6));
  byId("matrix-out").addEventListener("click", () => zoom(1 / 1.6));
  byId("matrix-fit").addEventListener("click", fitAll);
  box.addEventListener("scroll", draw);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  choose();
  redrawWhenNeeded(box, draw);
}

// ---- embedding map

function embeddingMap(data) {
  const canvas = byId("map-canvas"), says = byId("map-says"), kind = byId("map-kind"), filter = byId("map-filter");
  const numVideos = data.paths.length;
  const EDGE = 14;
  const dot = numVideos > 600 ? 2.5 : 3.5, mark = data.names.length > 100 ? 4 : 6; // pixels from middle to border
  let places;

  const classOf = (i) => (i < numVideos ? data.labels[i] : i - numVideos);

  function draw() {
    const width = canvas.parentNode.clientWidth;
    canvas.style.height = "";
    const height = canvas.clientHeight;
    if (!width || !height) return;
    const pen = fit(canvas, width, height);
    const points = data.maps[kind.value];
    const [across, up] = [0, 1].map((axis) => points.filter((_, i) => i % 2 === axis));
    const [x0, y0, x1, y1] = [Math.min(...across), Math.min(...up), Math.max(...across), Math.max(...up)];
    const scale = Math.min((width - 2 * EDGE) / (x1 - x0 || 1), (height - 2 * EDGE) / (y1 - y0 || 1));
    const middle = [(x0 + x1) / 2, (y0 + y1) / 2];
    places = across.map((x, i) => [width / 2 + (x - middle[0]) * scale, height / 2 - (up[i] - middle[1]) * scale]);
    const wanted = filter.value.trim(), lightness = colour("--lightness"), text = colour("--text"), back = colour("--back");
    const isNamed = (i) => !wanted || matches(data.names[classOf(i)], wanted);
    places.forEach(([x, y], i) => {
      const isVideo = i < numVideos;
      pen.globalAlpha = isNamed(i) ? (isVideo ? 0.85 : 1) : 0.08;
      const paint = `hsl(${data.hues[classOf(i)]} 70% ${lightness})`;
      const isRing = isVideo && data.predicted[i] !== data.labels[i];
      pen.beginPath();
      if (isVideo) pen.arc(x, y, dot, 0, 7);
      else diamond(pen, x, y, mark);
      pen.fillStyle = isRing ? back : paint;
      pen.strokeStyle = isVideo ? paint : text;
      pen.lineWidth = isVideo ? 1.8 : 1.2;
      pen.fill();
      pen.stroke();
    });
    pen.globalAlpha = 1;
    if (wanted) nameTexts(pen, isNamed, text, back, width);
  }

  function diamond(pen, x, y, size) {
    pen.moveTo(x, y - size);
    pen.lineTo(x + size, y);
    pen.lineTo(x, y + size);
    pen.lineTo(x - size, y);
    pen.closePath();
  }

  function nameTexts(pen, isNamed, text, back, width) {
    pen.font = "12px system-ui, DejaVu Sans, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    const named = data.names.map((_, c) => numVideos + c).filter(isNamed);
    named.sort((i, j) => places[i][1] - places[j][1]);
    const taken = []; // left, right, y of the names so far
    for (const i of named) {
      const name = shorten(data.names[classOf(i)], 40), length = pen.measureText(name).width;
      const x = places[i][0] + (places[i][0] > width / 2 ? -10 - length : 10);
      let y = places[i][1];
      for (const [left, right, other] of taken)
        if (x < right && x + length > left && Math.abs(y - other) < 14) y = other + 14;
      taken.push([x, x + length, y]);
      pen.strokeStyle = back;
      pen.strokeText(name, x, y);
      pen.fillStyle = text;
      pen.fillText(name, x, y);
    }
  }

  function point(event) {
    const frame = canvas.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    let nearest = -1, least = 16 ** 2;
    places.forEach(([px, py], i) => {
      // Of two as near, the text, which lies above the videos.
      const distance = (px - x) ** 2 + (py - y) ** 2 - (i < numVideos ? 0 : 1);
      if (distance < least) [nearest, least] = [i, distance];
    });
    if (nearest < 0) return;
    const name = data.names[classOf(nearest)];
    if (nearest >= numVideos) says.textContent = `text of ${name}`;
    else {
      const called = data.predicted[nearest];
      const verdict = called === data.labels[nearest] ? "called so" : `called ${data.names[called]}`;
      says.textContent = `${data.paths[nearest]}: ${name}, ${verdict}`;
    }
  }

  kind.addEventListener("change", draw);
  filter.addEventListener("input", draw);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  draw();
  redrawWhenNeeded(canvas.parentNode, draw);
}

if (byId("matrix-data")) confusionMatrix(dataOf("matrix-data"));
if (byId("map-data")) embeddingMap(dataOf("map-data"));
