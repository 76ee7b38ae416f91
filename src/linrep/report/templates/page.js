"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("specs"), palettes = read("palettes");
  const root = document.documentElement;
  const charts = [...document.querySelectorAll(".chart[data-figure]")];
  const views = new Map();

  // --- theme: the system's choice unless the reader makes one on this page
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const theme = () => chosen || (dark.matches ? "dark" : "light");

  function colored(spec, palette) {
    let text = JSON.stringify(spec);
    for (const [token, color] of Object.entries(palette)) text = text.replaceAll(`"@${token}"`, `"${color}"`);
    return JSON.parse(text);
  }

  // A single view is stretched to its box; panels go into as many columns as there is room for.
  function fitted(spec, layout, room, spare) {
    if (layout === "fit") {
      spec.width = room;
      spec.autosize = { type: "fit-x", contains: "padding" };
    } else if (layout === "panels") {
      const axis = 66 + spare, gap = 18, most = spec.columns;
      const columns = Math.max(1, Math.min(most, Math.floor((room - 66) / 140)));
      spec.columns = columns === 3 && most === 4 ? 2 : columns;
      spec.spec.width = Math.floor((room - axis - gap * (spec.columns - 1)) / spec.columns);
      if (room < 500) spec.spec.height = 150;
    }
    spec.config.legend.columns = room < 500 ? 2 : room < 900 ? 3 : 6;
    if (room < 500) {
      spec.config.legend.labelFontSize = 11;
      spec.config.header.labelFontSize = 12;
    }
    spec.config.background = "transparent";
    return spec;
  }

  async function draw(box, mode = theme()) {
    const room = Math.floor(box.clientWidth);
    if (!room) return;
    const key = `${mode} ${box.dataset.layout === "fixed" ? "" : room}`;
    if (box.dataset.drawn === key) return;
    box.dataset.drawn = key;
    const embed = async (spare) => {
      const spec = fitted(colored(specs[box.dataset.figure], palettes[mode]), box.dataset.layout, room, spare);
      const old = views.get(box);
      views.set(box, await vegaEmbed(box, spec, { renderer: "svg", actions: false }));
      if (old) old.finalize();
      return box.querySelector("svg");
    };
    let svg = await embed(0);
    // How far labels stick out is known only once they are drawn.
    const over = svg.clientWidth - room;
    if (over > 0 && box.dataset.layout === "panels") svg = await embed(over + 2);
    // The picture has its own description; its thousands of marks are no help to a screen reader.
    svg.setAttribute("aria-hidden", "true");
    box.dataset.ready = mode;
  }
  const drawAll = (mode) => Promise.all(charts.map((box) => draw(box, mode)));

  function applyTheme() {
    root.dataset.theme = theme();
    const button = document.getElementById("theme");
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${button.textContent.toLowerCase()} colours`);
    drawAll();
  }
  document.getElementById("theme").addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    applyTheme();
  });
  dark.addEventListener("change", applyTheme);

  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => drawAll(), 150); });

  // Paper is white.
  matchMedia("print").addEventListener("change", (event) => {
    root.dataset.theme = event.matches ? "light" : theme();
    drawAll(event.matches ? "light" : theme());
  });

  // --- choice of inner product, one for the whole page
  const buttons = [...document.querySelectorAll(".switch button")];
  function showProduct(product) {
    for (const b of buttons) b.setAttribute("aria-pressed", String(b.value === product));
    for (const box of document.querySelectorAll("[data-product]")) box.hidden = box.dataset.product !== product;
    for (const box of document.querySelectorAll("[data-without]")) box.hidden = box.dataset.without.split("|").includes(product);
    drawAll();
    filterTables();
  }
  for (const b of buttons) b.addEventListener("click", () => {
    // What is being read stays where it is, though the parts above may change their height.
    const before = b.getBoundingClientRect().top;
    showProduct(b.value);
    scrollBy({ top: b.getBoundingClientRect().top - before, behavior: "instant" });
  });

  // --- tables: sort by a heading, filter by words and verdict
  const sortKey = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.sort ?? cell.textContent.trim();
    return value === "" ? null : Number.isNaN(Number(value)) ? value.toLowerCase() : Number(value);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [sortKey(row, column), row]);
        // Missing values stay last whichever way the table is sorted.
        rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null)
          : up * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
  function filterTables() {
    for (const box of document.querySelectorAll(".filters")) {
      const words = box.querySelector("input").value.trim().toLowerCase();
      const verdict = box.querySelector("select").value;
      for (const table of document.querySelectorAll(`table[data-of="${box.dataset.for}"]`)) {
        let shown = 0;
        for (const row of table.tBodies[0].rows) {
          row.hidden = !(row.dataset.words.includes(words) && (!verdict || row.dataset.verdict === verdict));
          shown += !row.hidden;
        }
        if (table.offsetParent) box.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length} concepts`;
      }
    }
  }
  for (const box of document.querySelectorAll(".filters")) for (const type of ["input", "change"]) box.addEventListener(type, filterTables);

  root.classList.add("js");
  root.dataset.theme = theme();
  if (buttons.length) showProduct(buttons[0].value);
  applyTheme();
  filterTables();
})();
