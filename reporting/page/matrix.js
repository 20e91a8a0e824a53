// ---- confusion matrix: rows and columns are units, each a class or a cluster of classes

function confusionMatrix(data) {
  const LABELLED = 11; // minimum pixels of a cell to show names
  const FONT = "11px system-ui, DejaVu Sans, sans-serif";
  const box = byId("matrix"), canvas = byId("matrix-canvas"), says = byId("matrix-says");
  const view = byId("matrix-view"), filter = byId("matrix-filter"), open = byId("matrix-open"), back = byId("matrix-back");
  const occurring = data.orders.listed;
  let opened = null; // classes of the opened clusters
  let units, counts, cell, edge, pen;
  let cursor = null; // [row, column]

  const isClusters = () => view.value === "clusters" && !opened;

  function keptClasses() {
    const wanted = filter.value.trim();
    if (!wanted) return new Set(opened || occurring);
    const named = new Set(occurring.filter((c) => matches(data.names[c], wanted)));
    const kept = new Set(named); // with the classes that they are predicted as, and those predicted as them
    for (let i = 0; i < data.cells.length; i += 3) {
      if (named.has(data.cells[i])) kept.add(data.cells[i + 1]);
      if (named.has(data.cells[i + 1])) kept.add(data.cells[i]);
    }
    return kept;
  }

  function choose() {
    const kept = keptClasses();
    if (isClusters())
      units = data.clusters
        .map(({ name, classes }) => ({ name, classes: classes.filter((c) => kept.has(c)) }))
        .filter(({ classes }) => classes.length);
    else {
      const order = opened || data.orders[view.value];
      units = order.filter((c) => kept.has(c)).map((c) => ({ name: data.names[c], classes: [c] }));
    }
    const unitOf = new Map(units.flatMap(({ classes }, i) => classes.map((c) => [c, i])));
    for (const unit of units) Object.assign(unit, { total: 0, right: 0 });
    counts = units.map(() => new Map());
    for (let i = 0; i < data.cells.length; i += 3) {
      const [row, column, count] = data.cells.slice(i, i + 3);
      const r = unitOf.get(row), c = unitOf.get(column);
      if (r === undefined) continue;
      units[r].total += count;
      if (row === column) units[r].right += count;
      if (c !== undefined) counts[r].set(c, (counts[r].get(c) || 0) + count);
    }
    cursor = null;
    back.hidden = !opened;
    open.hidden = true;
    says.textContent = units.length ? "Point at a cell, tap it, or move with the arrow keys." : "No class name contains this.";
    draw();
  }

  function draw() {
    const width = box.clientWidth;
    if (!width) return;
    pen = canvas.getContext("2d");
    pen.font = FONT;
    const widest = Math.max(40, ...units.map(({ name }) => pen.measureText(name).width));
    edge = Math.min(widest + 10, width * 0.36, 190);
    cell = (width - edge - 1) / Math.max(units.length, 1);
    // If names do not fit, the box scrolls or names are omitted.
    if (cell < LABELLED && units.length <= 100) cell = LABELLED;
    if (cell < LABELLED) [edge, cell] = [0, width / units.length];
    cell = Math.min(cell, 64);
    const full = edge + cell * units.length + 1;
    pen = fit(canvas, full, full);
    pen.fillStyle = colour("--panel");
    pen.fillRect(edge, edge, cell * units.length, cell * units.length);
    counts.forEach((row, r) => row.forEach((count, c) => drawCell(r, c, count)));
    if (view.value === "groups" && !opened && !filter.value.trim()) drawGroups();
    if (edge && units.length) drawLabels();
    if (cursor) {
      pen.strokeStyle = colour("--text");
      pen.lineWidth = 2;
      pen.strokeRect(edge + cursor[1] * cell, edge + cursor[0] * cell, cell, cell);
    }
  }

  function drawCell(r, c, count) {
    const gap = cell > 4 ? 1 : 0, x = edge + c * cell, y = edge + r * cell;
    const { total, right } = units[r], isOwn = r === c;
    const paint = (isRight, share) => {
      // In a matrix of many classes, cells with errors would be too small and faint to be visible.
      const least = isRight || cell > 4 ? 0.15 : 0.5;
      return `rgba(${colour(isRight ? "--right-rgb" : "--wrong-rgb")}, ${least + (1 - least) * Math.sqrt(share)})`;
    };
    const side = isOwn || cell > 4 ? cell - gap : Math.max(cell, 2.5);
    const share = (isOwn ? right : count) / total;
    pen.fillStyle = paint(isOwn, share);
    pen.fillRect(x, y, side, side);
    const wrongInside = isOwn ? count - right : 0; // within a cluster
    if (wrongInside) {
      const height = Math.max(2, (side * wrongInside) / count);
      pen.fillStyle = colour("--back");
      pen.fillRect(x, y + side - height - 1, side, height + 1);
      pen.fillStyle = paint(false, 1);
      pen.fillRect(x, y + side - height, side, height);
    }
    if (cell >= 20 && !isOwn) {
      pen.font = FONT;
      pen.fillStyle = colour("--text");
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(count, x + side / 2, y + side / 2);
    }
  }

  function drawGroups() {
    pen.strokeStyle = colour("--text");
    pen.lineWidth = 1;
    let at = edge;
    for (const size of data.groups) {
      pen.strokeRect(at - 0.5, at - 0.5, size * cell, size * cell);
      at += size * cell;
    }
  }

  function drawLabels() {
    pen.fillStyle = colour("--text");
    pen.font = FONT;
    pen.textBaseline = "middle";
    const name = (i) => {
      const text = units[i].name, share = (edge - 8) / pen.measureText(text).width;
      return share >= 1 ? text : shorten(text, Math.floor(text.length * share));
    };
    for (let i = 0; i < units.length; i++) {
      const at = edge + (i + 0.5) * cell;
      pen.textAlign = "right";
      pen.fillText(name(i), edge - 5, at);
      pen.save();
      pen.translate(at, edge - 5);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(name(i), 0, 0);
      pen.restore();
    }
    pen.fillStyle = colour("--faint");
    pen.textAlign = "right";
    pen.fillText("predicted →", edge - 5, 10);
    pen.fillText("true ↓", edge - 5, 25);
  }

  function moveTo(r, c) {
    if (!units[r] || !units[c]) return;
    cursor = [r, c];
    draw();
    const [row, column] = [units[r], units[c]], count = counts[r].get(c) || 0;
    const share = row.total ? ` (${((100 * count) / row.total).toFixed(1)}%)` : "";
    const inside = row.classes.length > 1 && r === c ? `; ${row.right} of them predicted as their own class` : "";
    says.textContent = `${row.name}, predicted as ${column.name}: ${count} of ${row.total}${share}${inside}`;
    open.hidden = !isClusters() || units.length < 2;
  }

  function point(event) {
    const frame = canvas.getBoundingClientRect();
    const at = (where) => Math.floor((where - edge) / cell);
    moveTo(at(event.clientY - frame.top), at(event.clientX - frame.left));
  }

  function press(event) {
    const [r, c] = cursor || [0, 0];
    const moves = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1] };
    if (event.key === "Enter" && !open.hidden) openCursor();
    else if (event.key === "Escape" && opened) close();
    else if (event.key in moves) moveTo(...(cursor ? moves[event.key] : [0, 0]));
    else return;
    event.preventDefault();
    if (cursor) {
      const [top, left] = cursor.map((place) => edge + place * cell);
      box.scrollTo(left - box.clientWidth / 2, top - box.clientHeight / 2);
    }
  }

  function openCursor() {
    opened = [...new Set(cursor.flatMap((place) => units[place].classes))];
    choose();
  }

  function close() {
    opened = null;
    choose();
  }

  view.addEventListener("change", close);
  filter.addEventListener("input", choose);
  open.addEventListener("click", openCursor);
  back.addEventListener("click", close);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", press);
  if (occurring.length * LABELLED * 1.4 > box.clientWidth) view.value = "clusters";
  choose();
  redrawWhenNeeded(box, draw);
}

if (byId("matrix-data")) confusionMatrix(dataOf("matrix-data"));
