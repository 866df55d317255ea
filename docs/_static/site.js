// Tables of few columns become blocks on a phone (site.css), in which each cell says which column it is of.
for (const table of document.querySelectorAll("article table.docutils")) {
  const heads = Array.from(table.querySelectorAll("thead th"), each => each.textContent.trim());
  if (heads.length > 4) continue;
  table.classList.add("stacks");
  for (const row of table.tBodies[0].rows) {
    Array.from(row.cells).forEach((cell, column) => {
      if (column > 0 && heads.length > 2 && heads[column]) cell.dataset.label = heads[column];
    });
  }
}
