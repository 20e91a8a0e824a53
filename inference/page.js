"use strict";

// Clicking a time seeks the video, clicking a sample presses its hidden button, and pictures are drawn on request.
document.addEventListener("click", (event) => {
  const at = (data) => event.target.closest(`[data-${data}]`);
  const video = document.querySelector("#video video");
  if (at("start") && video) {
    video.currentTime = Number(at("start").dataset.start);
    video.play();
  }
  if (at("sample")) {
    chosenSample = at("sample").dataset.sample;
    pressSample();
  }
  if (at("picture")) savePicture(at("picture").closest(".result"), at("picture").dataset.picture);
});

// A sample may be clicked before Gradio has made its hidden button: it is pressed as soon as it exists.
let chosenSample = null;

function pressSample() {
  const button = chosenSample && document.querySelector(`#sample-${chosenSample}`);
  if (!button) return;
  chosenSample = null;
  button.click();
}

// Samples replay their animation when hovered or focused.
for (const kind of ["mouseover", "focusin"])
  document.addEventListener(kind, ({ target }) => {
    const image = target.closest("[data-sample]")?.querySelector("img");
    if (image) image.src = image.src;
  });

// Scrolls to a new result if it is not visible, since Gradio has no event for it. Gradio's error messages disappear after
// some seconds, so they are shown in #alert until the next result (page.css hides the originals).
new MutationObserver(() => {
  pressSample();
  const alert = document.querySelector("#alert"), result = document.querySelector("#outcome .result");
  if (result && !result.matches(".empty, [data-seen]")) {
    result.dataset.seen = "";
    Object.assign(alert, { textContent: "", hidden: true });
    const { top } = result.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) result.scrollIntoView();
  }
  const toast = document.querySelector(".toast-body.error [data-testid=toast-text]:not([data-kept])");
  if (!toast) return;
  toast.dataset.kept = "";
  const textContent = toast.textContent.replace("Video not playable", "This browser cannot play the video; it may still be classified.");
  Object.assign(alert, { textContent, hidden: false });
}).observe(document, { childList: true, subtree: true });

// Downloads the result as a PNG with the contents of its HTML, 1000 pixels wide at a density of 1.5, black on white.
function savePicture(result, name) {
  const WIDTH = 1000, DENSITY = 1.5, EDGE = 28, inside = WIDTH - 2 * EDGE, GAP = 4;
  const INK = "#1c1e22", FAINT = "#5c626b", BLUE = "#1a62b4", ORANGE = "#b1480b", REST = "#a9c4e3", TRACK = "#e6e4de";
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  const steps = []; // run once the height is known
  let y = EDGE;
  const write = (text, x, style, align = "left", fill = INK, width = inside) =>
    steps.push(((top) => () => {
      Object.assign(pen, { font: `${style} system-ui, sans-serif`, textAlign: align, fillStyle: fill, textBaseline: "top" });
      pen.fillText(text, x, top, width);
    })(y));
  const block = (x, width, height, fill) =>
    steps.push(((top) => () => {
      pen.fillStyle = fill;
      pen.fillRect(x, top, width, height);
    })(y));
  const textOf = (element) => element.textContent.trim();

  write(name.replace(/\.png$/, ""), EDGE, "15px", "left", FAINT);
  y += 26;
  write(textOf(result.querySelector(".verdict")), EDGE, "bold 28px");
  y += 48;
  result.querySelectorAll(".bar").forEach((bar, place) => {
    const [label, , figure] = bar.children, start = EDGE + 300, length = inside - 300 - 80;
    write(textOf(label), EDGE, "16px", "left", INK, 285);
    write(textOf(figure), WIDTH - EDGE, "16px", "right");
    y += 3;
    block(start, length, 11, TRACK);
    block(start, (length * parseFloat(bar.querySelector("i").style.width)) / 100, 11, place ? REST : BLUE);
    y += 23;
  });
  y += 12;
  const blocks = [...result.querySelectorAll(".band button")], total = blocks.reduce((sum, b) => sum + Number(b.style.flexGrow), 0);
  let x = EDGE;
  for (const part of blocks) {
    const width = (inside * Number(part.style.flexGrow)) / total;
    block(x, Math.max(width - 1, 1), 26, part.style.backgroundColor);
    x += width;
  }
  if (blocks.length) y += 38;
  result.querySelectorAll(".segments > .time").forEach((time) => {
    const [label, figure] = [time.nextElementSibling, time.nextElementSibling.nextElementSibling];
    y += 3;
    block(EDGE, 11, 11, time.querySelector("i").style.backgroundColor);
    y -= 3;
    write(textOf(time), EDGE + 20, "15px");
    write(textOf(label), EDGE + 180, "15px", "left", INK, inside - 260);
    write(textOf(figure), WIDTH - EDGE, "15px", "right");
    y += 24;
  });
  write(textOf(result.querySelector(".note")), EDGE, "13px", "left", FAINT);
  y += 16;
  for (const strip of result.querySelectorAll(".strip")) {
    y += 10;
    if (strip.dataset.title) write(strip.dataset.title, EDGE, "15px", "left", FAINT);
    if (strip.dataset.title) y += 22;
    const side = (inside - 7 * GAP) / 8, start = y, HALF = 24;
    [...strip.children].forEach((cell, place) => {
      const x = EDGE + place * (side + GAP), bar = cell.querySelector("i");
      y = start;
      for (const image of cell.querySelectorAll("img")) {
        const at = [x, y, side, (side * image.naturalHeight) / image.naturalWidth];
        steps.push(() => pen.drawImage(image, ...at));
        y += at[3] + GAP;
      }
      const length = HALF * bar.style.getPropertyValue("--share"), isFor = bar.className === "for";
      y += HALF - isFor * length;
      block(x, side, length, isFor ? BLUE : ORANGE);
      y += HALF + isFor * length;
      write(textOf(cell), x + side / 2, "13px", "center", FAINT);
      y += 20;
    });
  }
  [canvas.width, canvas.height] = [DENSITY * WIDTH, DENSITY * (y + EDGE - GAP)];
  pen.scale(DENSITY, DENSITY);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, WIDTH, y + EDGE);
  for (const step of steps) step();
  const link = Object.assign(document.createElement("a"), { download: name, href: canvas.toDataURL("image/png") });
  link.click();
}
