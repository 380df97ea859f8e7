// Two conveniences; without scripts the form and the links do the same, and a reload shows news.
//  - The slider of "Who helps whom" fetches a round's matrices from this server.
//  - News replace the page's contents by themselves. What is unfolded stays unfolded, what is scrolled stays scrolled, and nothing is
//    replaced under the hands of somebody at work.
"use strict";

const EVERY = 5000; // ms between two looks for news
const AT_WORK = 8000; // ms after a key or a click in which nothing is replaced

let lastAction = -Infinity;

function prepareSlider() {
  const slider = document.getElementById("round");
  if (!slider) return;
  const rounds = slider.dataset.rounds.split(" ").map(Number);
  const output = slider.form.querySelector("output");
  const button = slider.form.querySelector("button");
  let latest = 0;

  slider.min = 0;
  slider.max = rounds.length - 1;
  slider.value = Math.max(0, rounds.indexOf(Number(output.value)));
  button.hidden = true;
  slider.setAttribute("aria-valuetext", "round " + output.value);

  async function show(number) {
    const mine = ++latest;
    output.value = number;
    slider.setAttribute("aria-valuetext", "round " + number);
    for (const link of document.querySelectorAll(".strip a")) {
      if (Number(link.dataset.round) === number) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const answer = await fetch("/matrices/" + number, { headers: { Accept: "text/html" } });
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok || mine !== latest) return;
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = document.querySelector("#matrices details").open;
    const fresh = parsed.getElementById("matrices");
    fresh.querySelector("details").open = open;
    document.getElementById("matrices").replaceWith(fresh);
    const shown = number === rounds.at(-1) ? null : number; // news then keep showing this round
    history.replaceState(null, "", withRound(shown));
  }

  slider.addEventListener("input", () => show(rounds[Number(slider.value)]));
  slider.form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector(".strip").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    slider.value = rounds.indexOf(Number(link.dataset.round));
    show(Number(link.dataset.round));
  });
}

function withRound(number) {
  const address = new URL(location.href);
  if (number === null) address.searchParams.delete("round");
  else address.searchParams.set("round", number);
  return address;
}

async function lookForNews() {
  const main = document.querySelector("main[data-stamp]");
  if (!main || document.hidden || performance.now() - lastAction < AT_WORK) return;
  const news = await fetch("/stamp");
  if (news.status === 401) { location.reload(); return; }
  if (!news.ok || (await news.text()) === main.dataset.stamp) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = parsed.querySelector("main[data-stamp]");
  if (!fresh || performance.now() - lastAction < AT_WORK) return;
  keepUnfolded(main, fresh);
  const places = [...main.querySelectorAll(".scroll")].map((one) => [one.getAttribute("aria-label"), one.scrollLeft]);
  main.replaceWith(fresh);
  for (const one of fresh.querySelectorAll(".scroll")) {
    const place = places.find(([label]) => label === one.getAttribute("aria-label"));
    if (place) one.scrollLeft = place[1];
  }
  document.querySelector("footer").replaceWith(parsed.querySelector("footer"));
  prepareSlider();
}

function keepUnfolded(before, after) {
  const words = (details) => details.querySelector("summary").textContent;
  const open = new Set([...before.querySelectorAll("details[open]")].map(words));
  for (const details of after.querySelectorAll("details")) details.open = open.has(words(details));
}

for (const kind of ["keydown", "pointerdown", "input"]) {
  document.addEventListener(kind, () => { lastAction = performance.now(); }, { passive: true });
}
prepareSlider();
(async () => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    try { await lookForNews(); } catch { /* the server is away: what is shown stays, and the next look comes */ }
  }
})();
