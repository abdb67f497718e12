"use strict";
// What sorting and filtering need of all samples stands in #index; the pictures of each in a script of its own, which
// is parsed only when its card is shown, and cards are made a page at a time: thousands of samples stay light.
const PAGE = 24;
const BARS = 32;
const LAYERS = ["foreground", "background", "composite", "recomposite"];
const MASKS = ["alpha", "precise_mask", "trimap", "rough_mask"];
const TEXTS = [
  ["Foreground", "foreground_caption"], ["Composite", "composite_caption"], ["Instruction", "instruction"],
  ["Background", "background_caption"], ["Source", "source"], ["Licence", "licence"],
];
const NUMBERS = [["score S", "score"], ["foreground error", "foreground_error"], ["recomposite error", "recomposite_error"]];

const at = (id) => document.getElementById(id);
const read = (id) => JSON.parse(at(id).textContent);
const { samples, dropped, total } = read("index");
const words = samples.map((s) => [s.id, ...TEXTS.map(([, name]) => s[name])].join(" ").toLowerCase());
const scores = samples.map((s) => s.score).filter((score) => score !== null);
const top_ = Math.max(...scores, 0) || 1;
const number = (value) => (value === null ? "–" : value === 0 ? "0" : value.toPrecision(3));

let chosenBar = null;
let order = [];
let made = 0;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function barOf(score) {
  return Math.min(BARS - 1, Math.floor((score / top_) * BARS));
}

function choose() {
  const text = at("search").value.trim().toLowerCase().split(/\s+/);
  const split = at("split").value;
  const source = at("source").value;
  order = samples.map((_, i) => i).filter((i) =>
    text.every((word) => words[i].includes(word)) && (!split || samples[i].split === split) &&
    (!source || samples[i].source === source) &&
    (chosenBar === null || (samples[i].score !== null && barOf(samples[i].score) === chosenBar)));
  const sign = at("sort").value === "worst" ? -1 : 1;
  const value = (i) => (samples[i].score === null ? Infinity : sign * samples[i].score);
  const byId = (i, j) => (samples[i].id < samples[j].id ? -1 : 1);
  order.sort(at("sort").value === "id" ? byId : (i, j) => value(i) - value(j) || byId(i, j));
  at("shown").textContent = `${order.length} of ${samples.length} shown`;
  at("cards").replaceChildren();
  made = 0;
  more();
}

function more() {
  const next = order.slice(made, made + PAGE);
  at("cards").append(...next.map(card));
  made += next.length;
  at("more").hidden = made >= order.length;
}

function card(i) {
  const sample = samples[i];
  const pictures = read(`pictures-${i}`);
  const made = at("card").content.cloneNode(true);
  made.querySelector(".name").textContent = sample.id;
  made.querySelector(".name").title = sample.id;
  made.querySelector(".split").textContent = sample.split;
  for (const [row, names] of [[".layers", LAYERS], [".masks", MASKS]]) {
    made.querySelector(row).append(...names.map((name) => figure(name, pictures)));
  }
  for (const [label, name] of NUMBERS) {
    const entry = element("div");
    entry.append(element("dt", "", label), element("dd", "", number(sample[name])));
    made.querySelector(".scores").append(entry);
  }
  for (const [label, name] of TEXTS.filter(([, name]) => sample[name])) {
    made.querySelector(".texts").append(element("dt", "", label), element("dd", "", sample[name]));
  }
  return made;
}

function figure(name, pictures) {
  const made = element("figure");
  const button = element("button", "picture");
  const image = element("img", name === "foreground" ? "board" : "");
  image.addEventListener("load", () => image.classList.toggle("tall", image.naturalHeight > image.naturalWidth));
  image.src = pictures[name];
  image.alt = name.replace("_", " ");
  button.type = "button";
  button.append(image);
  button.addEventListener("click", () => view(name, pictures));
  made.append(button, element("figcaption", "", image.alt.replace(" mask", "")));
  return made;
}

// One picture at a time, large; stepping from composite to recomposite shows where they differ.
let stepping = () => {};
function view(name, pictures) {
  const names = [...LAYERS, ...MASKS];
  let place = names.indexOf(name);
  const show = () => {
    at("large").src = pictures[names[place]];
    at("large").className = names[place] === "foreground" ? "board" : "";
    at("large").alt = at("label").textContent = names[place].replace("_", " ");
  };
  stepping = (step) => { place = (place + step + names.length) % names.length; show(); };
  show();
  at("viewer").showModal();
}

function histogram() {
  const counts = new Array(BARS).fill(0);
  for (const score of scores) counts[barOf(score)] += 1;
  const highest = Math.max(...counts, 1);
  const svg = at("histogram");
  svg.setAttribute("viewBox", `0 0 ${BARS} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  const rect = (className, x, width, height) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ class: className, x, width, y: 100 - height, height })) {
      made.setAttribute(key, value);
    }
    return made;
  };
  counts.forEach((count, bar) => {
    if (!count) return;
    const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
    const [low, high] = [bar, bar + 1].map((edge) => number((edge * top_) / BARS));
    const height = Math.max(6, 100 * Math.sqrt(count / highest)); // roots, or single bad samples could not be seen
    group.append(rect("hit", bar, 1, 100), rect("bar", bar + 0.06, 0.88, height));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${count} with S from ${low} to ${high}`;
    group.append(title);
    group.setAttribute("role", "button");
    group.setAttribute("tabindex", "0");
    group.setAttribute("aria-label", title.textContent);
    group.setAttribute("aria-pressed", "false");
    const toggle = () => {
      chosenBar = chosenBar === bar ? null : bar;
      for (const other of svg.children) other.setAttribute("aria-pressed", String(other === group && chosenBar === bar));
      choose();
    };
    group.addEventListener("click", toggle);
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
    });
    svg.append(group);
  });
  at("range").append(element("span", "", "0"), element("span", "", "score S: lower is better, choose a bar"),
    element("span", "", number(top_)));
}

function start() {
  const tally = (name) => {
    const counts = new Map();
    for (const sample of samples) counts.set(sample[name], (counts.get(sample[name]) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]);
  };
  for (const name of ["split", "source"]) {
    at(name).append(...tally(name).filter(([value]) => value).map(([value, count]) => {
      const option = element("option", "", `${value} (${count})`);
      option.value = value;
      return option;
    }));
  }
  const parts = tally("split").map(([split, count]) => `${count} ${split}`).join(", ");
  const part = total > samples.length ? `, ${samples.length} of them here, spread evenly over the scores` : "";
  at("summary").textContent = `${total} samples${part} (${parts}). Choose a picture to see it large.`;
  const lost = dropped.reduce((sum, row) => sum + row[2], 0);
  at("left-out").hidden = lost === 0;
  at("left-out").querySelector("summary").textContent = `${lost} candidates left out`;
  at("left-out").querySelector("tbody").append(...dropped.map((row) => {
    const made = element("tr");
    made.append(...row.map((cell) => element("td", "", String(cell))));
    return made;
  }));
  histogram();
  choose();
  for (const id of ["split", "source", "sort"]) at(id).addEventListener("change", choose);
  at("search").addEventListener("input", choose);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("more").addEventListener("click", more);
  new IntersectionObserver((seen) => { if (seen[0].isIntersecting && made < order.length) more(); },
    { rootMargin: "600px" }).observe(at("end"));
  at("previous").addEventListener("click", () => stepping(-1));
  at("next").addEventListener("click", () => stepping(1));
  at("close").addEventListener("click", () => at("viewer").close());
  at("viewer").addEventListener("click", (event) => { if (event.target === at("viewer")) at("viewer").close(); });
  at("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") stepping(-1);
    if (event.key === "ArrowRight") stepping(1);
  });
}

start();
