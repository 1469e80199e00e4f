// Sort tables by column, filter tables by words, and filter claims by verdict.

const number = (cell) => {
  const match = cell.textContent.replaceAll(",", "").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return match ? Number(match[0]) : NaN;
};

function sort(table, heading) {
  const column = [...heading.parentElement.children].indexOf(heading);
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const numeric = heading.classList.contains("number");
  const compare = (a, b) => {
    const [left, right] = [a.cells[column], b.cells[column]];
    if (!numeric) return left.textContent.localeCompare(right.textContent, "en", { numeric: true }) * (descending ? -1 : 1);
    const [x, y] = [number(left), number(right)];
    // Missing values stay last in both directions.
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return (x - y) * (descending ? -1 : 1);
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function filter(table, words, count) {
  const terms = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    // Match the beginnings of names: `l2` does not match `pgd_l2`.
    const names = row.textContent && [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ").split(/[\s(),]+/);
    row.hidden = !terms.every((word) => names.some((name) => name.startsWith(word)));
    shown += !row.hidden;
  }
  count.textContent = terms.length ? `${shown} of ${table.tBodies[0].rows.length}` : "";
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
  if (table.tBodies[0].rows.length < 4) continue;
  const box = document.createElement("p");
  const field = document.createElement("input");
  const count = document.createElement("output");
  box.className = "filter";
  field.type = "search";
  field.placeholder = "filter rows, e.g. pgd l2";
  field.setAttribute("aria-label", "filter rows");
  field.addEventListener("input", () => filter(table, field.value, count));
  box.append(field, " ", count);
  table.parentElement.before(box);
}

const buttons = [...document.querySelectorAll("button[data-verdict]")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    const shown = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.verdict));
    for (const claim of document.querySelectorAll(".claims > li")) claim.hidden = !shown.has(claim.dataset.verdict);
  });
}
