// Calls to the workstation and its pictures.
(() => {
  const fedsca = (window.fedsca = window.fedsca || {});
  const session = () => window.trame?.client?.getConnection()?.getSession();
  const call = async (method, values) => {
    const open = session();
    if (!open) return;
    try {
      await open.call(method, values);
    } catch (error) {
      console.error("The workstation did not take", method, error);
    }
  };

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
  let subscription = null;
  fedsca.watch = (name, draw) => { views[name] = { draw, last: 0 }; };
  fedsca.listen = () => {
    const open = session();
    if (!open || subscription) return;
    subscription = open.subscribe("fedsca.frames", async ([frame]) => {
      const view = views[frame.meta.view];
      if (!view) return;
      const bitmap = await createImageBitmap(new Blob([frame.content], { type: frame.meta.type }));
      if (frame.meta.number > view.last) {
        view.last = frame.meta.number;
        view.draw(bitmap, frame.meta);
      }
      bitmap.close();
      call("fedsca.shown", [frame.meta.view, frame.meta.number]);
    });
    fedsca.act("hello");
  };
})();
