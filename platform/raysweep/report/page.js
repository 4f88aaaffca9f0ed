"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), card = style.getPropertyValue("--card").trim();
  const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  for (const node of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(node.dataset.figure).textContent);
    figure.layout.font.color = ink;
    figure.layout.hoverlabel = { bgcolor: card, font: { color: ink }, align: "left" };
    Plotly.react(node, figure.data, figure.layout, options);
  }
}

function value(row, column) {
  const cell = row.cells[column], text = cell.dataset.value ?? cell.textContent;
  const number = text.trim() === "" ? NaN : Number(text);
  return { text, number, empty: cell.textContent.trim() === "" };
}

function compare(a, b, sign) {
  if (a.empty || b.empty) return a.empty - b.empty;
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
  return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
}

function sort(table, column) {
  const heads = table.tHead.rows[0].cells, ascending = heads[column].ariaSort !== "ascending";
  for (const head of heads) head.ariaSort = null;
  heads[column].ariaSort = ascending ? "ascending" : "descending";
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a, column), value(b, column), ascending ? 1 : -1));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable"))
  [...table.tHead.rows[0].cells].forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(table, column)));
dark.addEventListener("change", draw);
draw();
