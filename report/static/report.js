// The list of mentions beside one of them: filters, search and keys. A row of melcacheList is
// [anchor, page, id, before, surface, behind, gold, [[outcome, probability, [mark, ...]], ...], lost]: a run after the
// other; lost: the mention does not stand in its sentence, which is all `behind`.
// Texts are put into the page as text, never as HTML. The state of the filters stands in the address.
"use strict";

const all = [];
const LETTERS = "ABCD";
const SIGNS = { right: "✓", tied: "=", other: "✕", "not-listed": "∅", nil: "∅" };
const MOST = 200; // rows of the list at once
document.documentElement.classList.add("scripted"); // before anything is drawn

function melcacheList(rows) {
  for (const row of rows) {
    row.words = [row[2], row[3], row[4], row[5], row[6]].join(" ").toLowerCase();
    all.push(row);
  }
}

addEventListener("DOMContentLoaded", () => {
  const list = document.querySelector(".list"), form = list.querySelector("form"), rows = list.querySelector(".rows");
  const count = list.querySelector(".count"), earlier = list.querySelector(".earlier"), later = list.querySelector(".later");
  const page = Number(list.dataset.page), keys = document.querySelector("dialog.keys"), main = document.querySelector("main");
  let matching = [], chosen = null, first = 0, keyed = false;

  const failed = (said) => said[0] !== "right";
  const file = (number) => `mentions-${String(number).padStart(3, "0")}.html`;
  const query = () => {
    const given = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) given.set(name, value);
    const text = given.toString();
    return text ? "?" + text : "";
  };
  const address = (row) => file(row[1]) + query() + "#" + row[0];

  function matches(row) {
    const given = Object.fromEntries(new FormData(form));
    const text = (given.q || "").trim().toLowerCase();
    if (text && !row.words.includes(text)) return false;
    const fits = row[7].every((said, n) => {
      const wanted = given[LETTERS[n]];
      return !wanted || (wanted === "wrong" ? failed(said) : said[0] === wanted);
    });
    return fits && (!given.kind || row[7].some((said) => said[2].includes(given.kind)));
  }

  function item(row, place) {
    const line = document.createElement("li"), link = document.createElement("a");
    const signs = document.createElement("span"), words = document.createElement("span"), mark = document.createElement("mark");
    line.setAttribute("aria-setsize", matching.length);
    line.setAttribute("aria-posinset", place + 1);
    link.href = address(row);
    if (row === chosen) link.setAttribute("aria-current", "true");
    signs.className = "signs";
    signs.textContent = row[7].map((said) => SIGNS[said[0]]).join("");
    signs.setAttribute("aria-label", row[7].map((said, n) => `${LETTERS[n]} ${failed(said) ? "wrong" : "right"}`).join(", "));
    signs.setAttribute("role", "img");
    words.className = "words";
    words.dir = "auto";
    mark.textContent = row[4];
    words.append(row[3], mark, row[8] ? ": " : "", row[5]);
    link.append(signs, words);
    line.append(link);
    return line;
  }

  function draw() {
    const place = matching.indexOf(chosen);
    if (place >= 0 && (place < first || place >= first + MOST)) first = Math.floor(place / MOST) * MOST;
    if (first >= matching.length) first = 0;
    const shown = matching.slice(first, first + MOST);
    rows.start = first + 1;
    const focused = rows.contains(document.activeElement);
    rows.replaceChildren(...shown.map((row, n) => item(row, first + n)));
    const range = matching.length > MOST ? `, ${first + 1} to ${first + shown.length} listed` : "";
    count.textContent = `${matching.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} mentions${range}`;
    earlier.disabled = first === 0;
    later.disabled = first + MOST >= matching.length;
    const current = rows.querySelector("[aria-current]");
    if (current && focused) current.focus({ preventScroll: true });
    if (current) rows.scrollTop = current.offsetTop - rows.offsetTop - rows.clientHeight / 3;
  }

  function show(row) {
    document.querySelector(".card.chosen")?.classList.remove("chosen");
    chosen = row;
    document.getElementById(row[0]).classList.add("chosen");
    main.scrollTop = 0;
    if (keyed) document.querySelector(".card.chosen h2 a").focus({ preventScroll: true });
    keyed = false;
    draw();
  }

  // a mention of this page is shown at once, one of another page is gone to
  function go(row) {
    if (!row) return;
    if (row[1] !== page) location.href = address(row);
    else if (location.hash === "#" + row[0]) show(row);
    else location.hash = row[0];
  }

  function filter() {
    matching = all.filter(matches);
    first = 0;
    if (!matching.includes(chosen) && matching.length) {
      const here = matching.find((row) => row[1] === page);
      if (here) show(here);
    }
    draw();
    const there = chosen ? address(chosen) : file(page) + query();
    try { history.replaceState(null, "", there); } catch { /* some browsers forbid it for files: links carry the state */ }
  }

  function step(by, wanted = () => true) {
    const from = matching.indexOf(chosen);
    let at = from < 0 ? (by > 0 ? 0 : matching.length - 1) : from + by;
    while (at >= 0 && at < matching.length && !wanted(matching[at])) at += by;
    go(matching[at]);
  }

  function byAddress() {
    const wanted = location.hash.slice(1);
    return all.find((row) => row[1] === page && row[0] === wanted);
  }

  const actions = {
    j: () => step(1),
    k: () => step(-1),
    e: () => step(1, (row) => row[7].some(failed)),
    "/": () => form.q.focus(),
    "?": () => keys.showModal(),
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key === "Escape" && typing === form.q) form.q.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
    event.preventDefault();
    keyed = true; // who goes by key is led to the mention, who clicks in the list stays there
    actions[event.key]();
  });
  addEventListener("hashchange", () => { const row = byAddress(); if (row) show(row); });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => { event.preventDefault(); step(1); });
  form.addEventListener("click", (event) => {
    const button = event.target.closest(".quick button");
    if (!button) return;
    for (const [name, value] of Object.entries(button.dataset)) form[name.toUpperCase()].value = value;
    filter();
  });
  earlier.addEventListener("click", () => { first = Math.max(0, first - MOST); chosenStays(); });
  later.addEventListener("click", () => { first += MOST; chosenStays(); });
  list.querySelector(".help").addEventListener("click", actions["?"]);

  function chosenStays() { const kept = chosen; chosen = null; draw(); chosen = kept; rows.scrollTop = 0; }

  for (const [name, value] of new URLSearchParams(location.search)) if (form[name]) form[name].value = value;
  list.hidden = false;
  matching = all.filter(matches);
  const here = (row) => row[1] === page;
  const start = byAddress() || matching.find(here) || matching[0];
  if (start && here(start)) show(start);
  else if (start) location.replace(address(start)); // the first that the filters of a link let through is elsewhere
  else draw();
});
