// Tables that scroll can be reached by keyboard. Material wraps them when it has a page.
document$.subscribe(() => requestAnimationFrame(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap"))
    Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: "table" });
}));
