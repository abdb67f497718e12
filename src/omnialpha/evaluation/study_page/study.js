// The page of the human study. Every vote goes to localStorage first and to the server at once; it leaves localStorage
// only when the server has confirmed it. Votes carry their case and a revision, so sending one twice does no harm.
"use strict";

const AHEAD = 5; // cases whose pictures are loaded in advance, so that a lost connection is not noticed at once
const PAUSE = 400; // ms in which a second click belongs to the first one
const RETRY = 2000; // ms between attempts to reach the server
const PATIENCE = 15000; // ms until an attempt counts as failed
const LARGEST = 16; // zoom
const KEYS = { ArrowLeft: "A", ArrowDown: "tie", ArrowRight: "B", a: "A", t: "tie", b: "B" };
const BACKDROPS = { c: "checker", k: "black", w: "white" };

const element = (id) => document.getElementById(id);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let annotator = "";
let store = ""; // name of the pending votes in localStorage
let cases = []; // in this annotator's order: position, text, condition, choice, revision
let current = -1; // index of the case on the screen, -1 at the end
let accepting = false; // whether an answer counts: only when the pictures are there to be seen
const history = []; // indices of the answered cases of this visit
const loaded = new Map(); // pictures loaded in advance

// ---------------------------------------------------------------- votes

const pending = () => JSON.parse(localStorage.getItem(store) || "{}");
const keep = (votes) => localStorage.setItem(store, JSON.stringify(votes));

function vote(choice) {
  if (!accepting) return;
  accepting = false;
  const item = cases[current];
  item.choice = choice;
  item.revision += 1;
  keep({ ...pending(), [item.position]: { choice, revision: item.revision } });
  history.push(current);
  send();
  show(following());
}

let sending = false;
let timer = 0;

async function send() {
  const votes = pending();
  if (sending || !Object.keys(votes).length) return report();
  sending = true;
  let problem = "";
  try {
    await request("api/votes", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        annotator,
        votes: Object.entries(votes).map(([position, vote]) => ({ position: Number(position), ...vote })),
      }),
    });
    const left = pending(); // the annotator may have voted meanwhile
    for (const position in votes) {
      if (left[position]?.revision === votes[position].revision) delete left[position];
    }
    keep(left);
  } catch (error) {
    problem = error.message;
  }
  sending = false;
  clearTimeout(timer);
  if (Object.keys(pending()).length) timer = setTimeout(send, problem ? RETRY : 0);
  report(problem);
}

function report(problem = "") {
  const count = Object.keys(pending()).length;
  const waiting = `${count} ${count === 1 ? "answer is" : "answers are"} kept here and will be sent`;
  element("status").textContent = problem ? `${problem} ${waiting}.` : "";
  element("end-status").textContent = count
    ? `${problem} ${waiting}. Please leave this page open.`
    : `All ${cases.length} answers are saved. You may close this page.`;
}

async function request(path, options = {}) {
  let response, body;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
    body = await response.json();
  } catch {
    throw new Error("No connection."); // or one that broke off
  }
  if (!response.ok) throw Object.assign(new Error(body.error), { refused: true });
  return body;
}

// ---------------------------------------------------------------- cases

const address = (item, name) => `api/pictures/${encodeURIComponent(annotator)}/${item.position}/${name}`;
const names = (item) => (item.condition ? ["A", "B", "condition"] : ["A", "B"]);

function following() {
  const open = (item) => item.choice === null;
  const after = cases.findIndex((item, index) => index > current && open(item));
  return after >= 0 ? after : cases.findIndex(open);
}

async function show(index) {
  current = index;
  setAccepting(false);
  element("study").hidden = index < 0;
  element("end").hidden = index >= 0;
  element("back").disabled = element("end-back").disabled = !history.length;
  const done = cases.filter((item) => item.choice !== null).length;
  element("bar").max = cases.length;
  element("bar").value = done;
  element("count").textContent = `${done} / ${cases.length}`;
  if (index < 0) return report();
  const item = cases[index];
  element("text").textContent = item.text;
  element("given").hidden = !item.condition;
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", button.dataset.choice === item.choice);
  }
  zoomTo(1, 0, 0);
  await Promise.all([wait(PAUSE), ...names(item).map((name) => load(element(name), address(item, name), index))]);
  if (current !== index) return; // went back meanwhile
  setAccepting(true);
  send(); // whatever waits; the connection is there
  loadAhead(index);
}

function setAccepting(value) {
  accepting = value;
  element("study").setAttribute("aria-busy", !value);
}

async function load(image, source, index) {
  image.classList.add("loading"); // or the last case's picture would still be there
  while (current === index) {
    image.src = source;
    try {
      await image.decode();
      image.classList.remove("loading");
      return;
    } catch {
      element("status").textContent = "Waiting for the pictures.";
      await wait(RETRY);
      image.removeAttribute("src");
    }
  }
}

function loadAhead(index) {
  const next = cases.filter((item, other) => other > index && item.choice === null).slice(0, AHEAD);
  const sources = next.flatMap((item) => names(item).map((name) => address(item, name)));
  for (const source of loaded.keys()) if (!sources.includes(source)) loaded.delete(source);
  for (const source of sources) {
    if (loaded.has(source)) continue;
    const image = new Image();
    image.onerror = () => loaded.delete(source);
    image.src = source;
    loaded.set(source, image);
  }
}

function back() {
  if (history.length) show(history.pop());
}

// ---------------------------------------------------------------- zoom: all pictures show the same part

const view = { scale: 1, x: 0, y: 0 }; // shift in fractions of a picture's frame

function zoomTo(scale, x, y) {
  view.scale = Math.min(LARGEST, Math.max(1, scale));
  const limit = (view.scale - 1) / 2; // the picture always fills its frame
  view.x = Math.min(limit, Math.max(-limit, x));
  view.y = Math.min(limit, Math.max(-limit, y));
  const transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.scale})`;
  for (const image of document.querySelectorAll(".view img")) image.style.transform = transform;
}

function zoomAt(factor, x, y) {
  const scale = Math.min(LARGEST, Math.max(1, view.scale * factor));
  const real = scale / view.scale;
  zoomTo(scale, x - (x - view.x) * real, y - (y - view.y) * real);
}

function place(frame, x, y) {
  const box = frame.getBoundingClientRect();
  return [(x - box.left) / box.width - 0.5, (y - box.top) / box.height - 0.5];
}

function listenToGestures(frame) {
  const fingers = new Map(); // pointer to its place in the frame
  const middle = () => {
    const places = [...fingers.values()];
    return [0, 1].map((axis) => places.reduce((sum, each) => sum + each[axis], 0) / places.length);
  };
  const spread = () => {
    const [first, second] = [...fingers.values()];
    return second ? Math.hypot(first[0] - second[0], first[1] - second[1]) : 0;
  };
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(frame, event.clientX, event.clientY));
  });
  frame.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const [before, apart] = [middle(), spread()];
    fingers.set(event.pointerId, place(frame, event.clientX, event.clientY));
    const after = middle();
    zoomTo(view.scale, view.x + after[0] - before[0], view.y + after[1] - before[1]);
    if (apart) zoomAt(spread() / apart, ...after);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    frame.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 400), ...place(frame, event.clientX, event.clientY));
  }, { passive: false });
}

const zoomActions = { in: () => zoomAt(1.5, 0, 0), out: () => zoomAt(1 / 1.5, 0, 0), fit: () => zoomTo(1, 0, 0) };

// ---------------------------------------------------------------- background, keys, beginning

function setBackdrop(name) {
  document.body.dataset.backdrop = name;
  for (const button of document.querySelectorAll("button[data-backdrop]")) {
    button.setAttribute("aria-pressed", button.dataset.backdrop === name);
  }
}

document.addEventListener("keydown", (event) => {
  if (!cases.length || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const zoom = { "+": "in", "=": "in", "-": "out", 0: "fit" }[key];
  if (zoom) zoomActions[zoom]();
  else if (event.repeat) event.preventDefault(); // a key held down is one answer, also on a focused button
  else if (KEYS[key]) vote(KEYS[key]);
  else if (BACKDROPS[key]) setBackdrop(BACKDROPS[key]);
  else if (key === "Backspace") back();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const data = event.target.closest("button")?.dataset;
  if (data?.choice) vote(data.choice);
  if (data?.backdrop) setBackdrop(data.backdrop);
  if (data?.zoom) zoomActions[data.zoom]();
});

async function begin(code) {
  annotator = code.trim().toLowerCase();
  element("login-problem").textContent = "";
  element("begin").disabled = true;
  for (;;) {
    try {
      const answer = await request(`api/cases?annotator=${encodeURIComponent(annotator)}`);
      store = `omnialpha ${answer.study} ${annotator}`;
      cases = answer.cases;
      break;
    } catch (error) {
      element("login-problem").textContent = error.message;
      if (error.refused) return (element("begin").disabled = false);
      await wait(RETRY);
    }
  }
  for (const item of cases) Object.assign(item, pending()[item.position]); // not sent before the page was closed
  element("login").hidden = true;
  show(following());
  send();
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  window.location.hash = element("code").value; // a reload goes on with the same code
  begin(element("code").value);
});
element("back").addEventListener("click", back);
element("end-back").addEventListener("click", back);
window.addEventListener("online", send);
document.querySelectorAll(".view").forEach(listenToGestures);
setBackdrop("checker");
if (window.location.hash.length > 1) begin(decodeURIComponent(window.location.hash.slice(1)));
