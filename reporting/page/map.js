// ---- embedding map

function embeddingMap(data) {
  const canvas = byId("map-canvas"), says = byId("map-says"), kind = byId("map-kind"), filter = byId("map-filter");
  const numVideos = data.paths.length;
  const EDGE = 18;
  const dot = numVideos > 600 ? 2.5 : 3.5, mark = data.names.length > 100 ? 4 : 6; // pixels from centre to border
  let places, pen, width, toScreen;
  let cursor = -1;

  const classOf = (i) => (i < numVideos ? data.labels[i] : i - numVideos);
  const isNamed = (i) => matches(data.names[classOf(i)], filter.value);

  function draw() {
    width = canvas.parentNode.clientWidth;
    canvas.style.height = "";
    const height = canvas.clientHeight;
    if (!width || !height) return;
    pen = fit(canvas, width, height);
    const points = data.maps[kind.value];
    const [across, up] = [0, 1].map((axis) => points.filter((_, i) => i % 2 === axis));
    const [x0, y0, x1, y1] = [Math.min(...across), Math.min(...up), Math.max(...across), Math.max(...up)];
    const [sx, sy] = [(width - 2 * EDGE) / (x1 - x0 || 1), (height - 2 * EDGE) / (y1 - y0 || 1)];
    toScreen = (x, y) => [EDGE + (x - x0) * sx, height - EDGE - (y - y0) * sy];
    places = across.map((x, i) => toScreen(x, up[i]));
    places.forEach(drawPoint);
    pen.globalAlpha = 1;
    drawNames();
    if (cursor < 0) return;
    pen.beginPath();
    pen.arc(...places[cursor], mark + 4, 0, 7);
    pen.strokeStyle = colour("--text");
    pen.lineWidth = 2;
    pen.stroke();
  }

  function drawPoint([x, y], i) {
    const isVideo = i < numVideos;
    pen.globalAlpha = isNamed(i) ? (isVideo ? 0.85 : 1) : 0.08;
    const paint = `hsl(${data.hues[classOf(i)]} 60% ${colour("--lightness")})`;
    const isRing = isVideo && data.predicted[i] !== data.labels[i];
    pen.beginPath();
    if (isVideo) pen.arc(x, y, dot, 0, 7);
    else [[0, -mark], [mark, 0], [0, mark], [-mark, 0]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
    pen.closePath();
    pen.fillStyle = isRing ? colour("--back") : paint;
    pen.strokeStyle = isVideo ? paint : colour("--text");
    pen.lineWidth = isVideo ? 1.8 : 1.2;
    pen.fill();
    pen.stroke();
  }

  // Names of the clusters or, with a filter, of the matching texts. Names that would overlap another are omitted.
  function drawNames() {
    const texts = data.names.map((name, c) => [...places[numVideos + c], name]).filter((_, c) => isNamed(numVideos + c));
    const clusters = data.clusters[kind.value].map(([x, y, name]) => [...toScreen(x, y), name]);
    pen.font = "600 13px system-ui, DejaVu Sans, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 5;
    pen.lineJoin = "round";
    pen.strokeStyle = colour("--back");
    pen.fillStyle = colour("--text");
    const taken = []; // centre, half of the length, and y of the names so far
    for (const [x, y, full] of filter.value.trim() ? texts : clusters) {
      const name = shorten(full, 32), half = pen.measureText(name).width / 2;
      const middle = Math.max(half + 4, Math.min(width - half - 4, x)), top = y - 16 < 10 ? y + 16 : y - 16;
      if (taken.some(([other, size, at]) => Math.abs(other - middle) < size + half + 6 && Math.abs(at - top) < 17)) continue;
      taken.push([middle, half, top]);
      pen.strokeText(name, middle - half, top);
      pen.fillText(name, middle - half, top);
    }
  }

  function moveTo(i) {
    if (i < 0) return;
    cursor = i;
    draw();
    const name = data.names[classOf(i)];
    if (i >= numVideos) says.textContent = `text of ${name}`;
    else {
      const predicted = data.predicted[i];
      const verdict = predicted === data.labels[i] ? "correct" : `predicted as ${data.names[predicted]}`;
      says.textContent = `${data.paths[i]}: ${name}, ${verdict}`;
    }
  }

  // The point with the lowest cost, or -1 if none costs less than `least`.
  function nearest(costOf, least) {
    let found = -1;
    places.forEach(([x, y], i) => {
      const cost = isNamed(i) ? costOf(x, y, i) : Infinity;
      if (cost < least) [found, least] = [i, cost];
    });
    return found;
  }

  function point(event) {
    const frame = canvas.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    // If equally near, the text is chosen, since it is drawn above the videos.
    moveTo(nearest((px, py, i) => (px - x) ** 2 + (py - y) ** 2 - (i < numVideos ? 0 : 1), 16 ** 2));
  }

  function press(event) {
    const ways = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (!(event.key in ways)) return;
    event.preventDefault();
    const [dx, dy] = ways[event.key], [x, y] = cursor < 0 ? [width / 2, 0] : places[cursor];
    // The nearest point in the direction of the key; sideways distance counts double.
    const costOf = (px, py) => {
      const ahead = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      return ahead > 0.5 ? ahead + 2 * aside : Infinity;
    };
    moveTo(cursor < 0 ? nearest((px, py) => Math.hypot(px - x, py - y), Infinity) : nearest(costOf, Infinity));
  }

  kind.addEventListener("change", draw);
  filter.addEventListener("input", draw);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", press);
  draw();
  redrawWhenNeeded(canvas.parentNode, draw);
}

if (byId("map-data")) embeddingMap(dataOf("map-data"));
