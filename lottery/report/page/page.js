"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // Charts take the width there is. Drawn as SVG, they take the page's colours too, on paper and in the dark.
  for (const place of document.querySelectorAll("[data-chart]")) {
    const spec = { ...data.charts[place.dataset.chart], width: "container", autosize: { type: "fit-x", contains: "padding" } };
    const actions = { export: true, source: false, compiled: false, editor: false };
    const shown = vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", actions, tooltip: { theme: "custom" } });
    shown.then(() => place.setAttribute("data-drawn", ""), (error) => console.error(place.dataset.chart, error));
  }

  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const filters = document.querySelector(".filters");
  const names = data.columns;

  // What a row is sorted by: its number, or its text. Empty cells come last either way.
  const value = (row, index) => {
    const cell = row.cells[index];
    if (!cell.classList.contains("number")) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  const closeDetails = () => {
    for (const open of body.querySelectorAll("tr.detail")) open.remove();
    for (const button of body.querySelectorAll("button.layers")) button.setAttribute("aria-expanded", "false");
  };

  const sort = (index, falling) => {
    closeDetails();
    const sign = falling ? -1 : 1;
    const compare = (one, other) => {
      const [first, second] = [value(one, index), value(other, index)];
      if (first === null || second === null) return (first === null) - (second === null);
      return sign * (typeof first === "number" ? first - second : first.localeCompare(second, "en", { numeric: true }));
    };
    body.append(...rows.sort(compare));
    heads.forEach((head, at) => {
      if (at === index) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };

  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(index, head.getAttribute("aria-sort") === "ascending"));
    head.replaceChildren(button);
  });

  const filter = () => {
    closeDetails();
    const asked = new FormData(filters);
    const text = asked.get("text").trim().toLowerCase();
    const picked = [...asked].filter(([name, wanted]) => name !== "text" && wanted !== "");
    let count = 0;
    for (const row of rows) {
      const fits = picked.every(([name, wanted]) => row.cells[names.indexOf(name)].textContent === wanted);
      row.hidden = !(fits && row.textContent.toLowerCase().includes(text));
      count += !row.hidden;
    }
    filters.querySelector("output").textContent = `${count} of ${rows.length} shown`;
  };
  filters.hidden = false;
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // The weights that each kernel keeps, below the row whose button was pressed.
  body.addEventListener("click", (event) => {
    const button = event.target.closest("button.layers");
    if (!button) return;
    const opening = button.getAttribute("aria-expanded") === "false";
    const row = button.closest("tr");
    button.setAttribute("aria-expanded", String(opening));
    if (!opening) {
      if (row.nextElementSibling?.classList.contains("detail")) row.nextElementSibling.remove();
      return;
    }
    const list = document.createElement("ul");
    for (const [kernel, kept, size] of data.layers[button.dataset.layers]) {
      const item = document.createElement("li");
      item.textContent = `${kernel}: ${(100 * kept / size).toPrecision(3)}% (${kept.toLocaleString("en")} of ${size.toLocaleString("en")})`;
      list.append(item);
    }
    const detail = document.createElement("tr");
    detail.className = "detail";
    const cell = detail.insertCell();
    cell.colSpan = heads.length;
    cell.append(list);
    row.after(detail);
  });
})();
