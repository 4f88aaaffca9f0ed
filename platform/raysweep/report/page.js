"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, card] = ["--ink", "--soft", "--card"].map(name => style.getPropertyValue(name).trim());
  // Named one by one: the default set has a button that sends the data to a web service.
  const options = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  for (const node of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(node.dataset.figure).textContent);
    figure.layout.font.color = ink;
    figure.layout.hoverlabel = { bgcolor: card, font: { color: ink }, align: "left" };
    figure.layout.modebar = { bgcolor: "transparent", color: soft, activecolor: ink };
    const small = figure.layout.height < 300;
    Plotly.react(node, figure.data, figure.layout, { ...options, displayModeBar: small ? false : "hover" });
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
