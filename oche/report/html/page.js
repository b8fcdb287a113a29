"use strict";
// Tables that sort and download, and text that copies.
(() => {
  const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function compare(a, b, way) {
    if (a === "" || b === "") return (a === "") - (b === ""); // unknown values come last in both directions
    const x = Number(a), y = Number(b);
    return way * (Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y);
  }

  function sort(table, heads, column) {
    const way = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none" : way > 0 ? "ascending" : "descending"));
    const body = table.tBodies[0], value = (row) => row.cells[column].dataset.value;
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), way)));
  }

  const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

  function csv(table, heads) {
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.dataset.value));
    return [heads.map((head) => head.textContent.replaceAll("\u00a0", " ")), ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
  }

  function download(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const holder of document.querySelectorAll(".table")) {
    const table = holder.querySelector("table"), heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => sort(table, heads, i)));
    holder.querySelector(".csv").addEventListener("click", () => download(holder.dataset.name, csv(table, heads)));
  }

  // What is wider than its place says so below it; the shadows at its sides need no script.
  const places = [...document.querySelectorAll(".scroll")];
  const watch = new ResizeObserver((entries) => entries.forEach(({ target: place }) => {
    place.nextElementSibling.hidden = place.scrollWidth <= place.clientWidth + 1;
  }));
  for (const place of places) {
    const hint = document.createElement("p");
    hint.className = "hint";
    hint.textContent = "← scroll sideways →";
    hint.hidden = true;
    place.after(hint);
    watch.observe(place);
  }

  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(source); // no permission: select the text, so that the reader can copy it
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
})();
