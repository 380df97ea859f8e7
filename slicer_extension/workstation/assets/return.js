// The way back after a cut. The workstation keeps everything, so the page only has to find it again: is it there (a small request, with a
// deadline), is the old connection whole after all (the workstation was busy), and if not, a new one with the same cookie.
(() => {
  const fedsca = window.fedsca, { link } = fedsca;
  // ms; after `long` a person is told what to do, and the page goes on trying
  const times = (fedsca.times = { look: 5000, alive: 10_000, probe: 4000, whole: 1000, connect: 10_000, long: 20_000 });
  const PAUSES = [100, 250, 500, 1000, 2000, 4000];
  let hurry = () => {};

  const within = (promise, ms) => new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    promise.then(() => resolve(true), () => resolve(false)).finally(() => clearTimeout(timer));
  });
  const pause = (ms) => new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    hurry = () => { clearTimeout(timer); resolve(); };
  });
  const alive = (ms) => within(fedsca.session()?.call("fedsca.alive", []) ?? Promise.reject(), ms);

  const probe = async () => { // here, other or none
    try {
      const reply = await fetch("here", { cache: "no-store", signal: AbortSignal.timeout(times.probe) });
      if (reply.status === 403) return "other";
      if (!reply.ok) return "none";
      if ((await reply.text()) === fedsca.life) return "here";
      window.location.reload(); // another workstation that let this browser in: what waits here is not for it
    } catch { /* nobody answers */ }
    return "none";
  };
  const connect = async () => {
    const old = fedsca.session();
    if (!(await within(window.trame.connect(), times.connect))) return false;
    if (old && old !== fedsca.session()) old.close();
    return true;
  };

  fedsca.lost = async () => {
    if (link.phase !== "on") return;
    link.phase = "trying";
    const began = performance.now();
    for (let turn = 0; ; turn++) {
      const found = await probe();
      if (found === "here" && ((await alive(times.whole)) || (await connect()))) break;
      if (found === "other") link.phase = "other";
      else if (link.phase !== "long" && performance.now() - began > times.long) link.phase = "long";
      await pause(PAUSES[Math.min(turn, PAUSES.length - 1)]);
    }
    link.phase = "on";
    fedsca.sendAgain();
  };
  fedsca.tryNow = () => hurry();

  // A connection may be dead without anybody saying so: a computer that slept, a tunnel that hangs.
  let asking = false;
  const look = async () => {
    if (asking || link.phase !== "on" || !fedsca.session()) return;
    asking = true;
    const answered = await alive(times.alive);
    asking = false;
    if (!answered) fedsca.lost();
  };
  const watch = () => setTimeout(() => { look(); watch(); }, times.look);
  watch();
  window.addEventListener("online", () => { hurry(); look(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { hurry(); look(); } });

  fedsca.LinkDialog = {
    props: { texts: Object },
    data: () => ({ link }),
    computed: { words() { return { trying: ["cutTitle", "cut"], long: ["goneTitle", "gone"], other: ["otherTitle", "other"] }[this.link.phase]; } },
    methods: { now: () => fedsca.tryNow() },
    template: `
      <div class="shade gone" v-if="link.phase !== 'on'" :data-link="link.phase"><div class="dialog" role="alert">
        <header><i class="spinner" v-if="link.phase !== 'other'"></i><h2>{{ texts[words[0]] }}</h2></header>
        <p>{{ texts[words[1]] }}</p>
        <div class="row" v-if="link.phase === 'long'"><button class="primary" @click="now">{{ texts.tryNow }}</button></div>
      </div></div>`,
  };
})();
