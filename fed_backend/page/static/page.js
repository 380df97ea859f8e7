// The slider of "Who helps whom": fetches a round's matrices from this server. Without scripts the form and the links do the same.
"use strict";

(() => {
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
})();
