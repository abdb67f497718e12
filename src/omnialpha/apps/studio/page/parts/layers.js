// The rows are read from the page as they stand, front layer first, and sent whenever one has changed.
function send() {
  const rows = [...element.querySelectorAll("li")].map((row) => ({
    index: Number(row.dataset.index),
    name: row.querySelector(".name").value,
    visible: row.querySelector(".visible").checked,
    opacity: Number(row.querySelector(".opacity").value),
  }));
  trigger("input", { rows });
}

element.addEventListener("change", send);
element.addEventListener("input", (event) => {
  if (event.target.className === "opacity")
    event.target.nextElementSibling.textContent = `${event.target.value} %`;
});
element.addEventListener("click", (event) => {
  const way = event.target.dataset?.move, row = event.target.closest("li");
  if (!way || !row) return;
  if (way === "up") row.previousElementSibling?.before(row);
  else row.nextElementSibling?.after(row);
  event.target.focus();
  send();
});
