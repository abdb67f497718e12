// Zoom and move the picture: buttons, control + wheel, double click, two fingers; drag or one finger moves it.
let scale = 1, x = 0, y = 0;
const fingers = new Map();
const stage = () => element.querySelector(".stage:not(.empty)");

function show() {
  const frame = stage();
  if (!frame) return;
  const width = frame.clientWidth, height = frame.clientHeight;
  x = Math.min(0, Math.max(width * (1 - scale), x));
  y = Math.min(0, Math.max(height * (1 - scale), y));
  const image = frame.querySelector("img");
  image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  frame.classList.toggle("close", scale > 1);
  element.querySelector("output").textContent = scale === 1 ? "fit" : `${scale.toFixed(1)} ×`;
}

function zoom(factor, px, py) {
  const next = Math.min(32, Math.max(1, scale * factor));
  x = px - (px - x) * next / scale;
  y = py - (py - y) * next / scale;
  scale = next;
  show();
}

function inside(event) {
  const box = stage().getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

element.addEventListener("click", (event) => {
  const way = event.target.dataset?.zoom;
  if (!way) return;
  const frame = stage();
  const factor = { in: 1.5, out: 1 / 1.5, fit: 0 }[way];
  zoom(factor, frame.clientWidth / 2, frame.clientHeight / 2);
});
element.addEventListener("dblclick", (event) => {
  if (event.target.closest(".stage:not(.empty)")) zoom(scale > 1 ? 0 : 3, ...inside(event));
});
element.addEventListener("wheel", (event) => {
  if (!event.ctrlKey || !event.target.closest(".stage:not(.empty)")) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), ...inside(event));
}, { passive: false });
element.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".stage:not(.empty)")) return;
  fingers.set(event.pointerId, inside(event));
});
element.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = inside(event);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    zoom(apart(now) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  } else if (scale > 1) {
    x += now[0] - before[0];
    y += now[1] - before[1];
    show();
  }
  fingers.set(event.pointerId, now);
});
for (const end of ["pointerup", "pointercancel", "pointerleave"])
  window.addEventListener(end, (event) => fingers.delete(event.pointerId));
watch("value", show);
