// Calls to the workstation and its pictures. Calls are numbered and kept until they were answered: after a cut they are sent again (`return.js`),
// and the workstation does none of them twice.
(() => {
  const fedsca = (window.fedsca = window.fedsca || {});
  const NOT_OPEN = -32099; // wslink's code for a call that did not leave the page
  const page = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
  const outbox = [];
  let number = 0;

  // phase: on; trying (cut, coming back); long (still trying, but a person should look); other (another workstation answers here)
  fedsca.link = window.Vue.reactive({ phase: "on" });
  fedsca.session = () => window.trame?.client?.getConnection()?.getSession();

  const transmit = async (item) => {
    try {
      await fedsca.session().call(item.method, [...item.values, [page, item.number]]);
    } catch (error) {
      if (fedsca.link.phase !== "on" || error?.code === NOT_OPEN) return; // it stays, for the next connection
      console.error("The workstation did not take", item.method, error);
    }
    const place = outbox.indexOf(item);
    if (place >= 0) outbox.splice(place, 1);
    item.answered();
  };
  const call = (method, values) =>
    new Promise((answered) => {
      const item = { method, values, number: ++number, answered };
      outbox.push(item);
      if (fedsca.link.phase === "on" && fedsca.session()) transmit(item);
    });
  fedsca.sendAgain = () => { for (const item of [...outbox]) transmit(item); };

  fedsca.act = (name, ...values) => call("fedsca.act", [name, values]);
  fedsca.gesture = (view, kind, ...values) => call("fedsca.gesture", [view, kind, values]);

  // Movements: what comes while the last one is on its way is added up and sent after it.
  fedsca.movement = (kind, merge) => {
    let waiting = null, busy = false;
    return async (view, ...values) => {
      waiting = waiting && waiting.view === view ? { view, values: merge(waiting.values, values) } : { view, values };
      if (busy) return;
      busy = true;
      while (waiting) {
        const next = waiting;
        waiting = null;
        await fedsca.gesture(next.view, kind, ...next.values);
      }
      busy = false;
    };
  };

  // Pictures: decoded off the main thread, drawn in order, each reported when it is on the canvas.
  const views = {};
  let listened = null;
  fedsca.watch = (name, draw) => { views[name] = { draw, last: 0 }; };
  fedsca.listen = () => {
    const open = fedsca.session();
    if (!open) return;
    if (open !== listened) {
      listened = open;
      open.subscribe("fedsca.frames", async ([frame]) => {
        const view = views[frame.meta.view];
        if (!view) return;
        const bitmap = await createImageBitmap(new Blob([frame.content], { type: frame.meta.type }));
        if (frame.meta.number > view.last) {
          view.last = frame.meta.number;
          view.draw(bitmap, frame.meta);
        }
        bitmap.close();
        open.call("fedsca.shown", [frame.meta.view, frame.meta.number]).catch(() => {}); // after a cut the page says hello anew
      });
    }
    fedsca.act("hello");
  };
})();
