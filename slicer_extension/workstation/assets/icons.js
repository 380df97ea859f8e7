// Line drawings of 24 x 24, one path each.
(() => {
  const paths = {
    none: "M5 3l14 8-6 2-3 6z",
    point: "M12 5v14M5 12h14",
    box: "M5 6h14v12H5z",
    scribble: "M4 17c3-9 5-9 6-4s2 5 4 0 3-6 6-4",
    paint: "M14 4l6 6-8 8c-2 2-6 2-8 2 0-2 0-6 2-8zM12 6l6 6",
    erase: "M9 19l-5-5 9-9 6 6-8 8zM9 19h11M8 10l6 6",
    undo: "M9 14L4 9l5-5M4 9h10a6 6 0 010 12h-3",
    redo: "M15 14l5-5-5-5M20 9H10a6 6 0 000 12h3",
    eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 100 6 3 3 0 000-6z",
    hidden: "M3 3l18 18M10 5.3a9 9 0 012-.3c6 0 10 7 10 7a17 17 0 01-3 3.7M6 7a17 17 0 00-4 5s4 7 10 7a9 9 0 004-1",
    lock: "M6 11h12v9H6zM8 11V8a4 4 0 018 0v3",
    open: "M6 11h12v9H6zM8 11V8a4 4 0 017.5-2",
    layout: "M4 5h10v14H4zM16 5h4v6h-4zM16 13h4v6h-4z",
    fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
    help: "M9 9a3 3 0 115 2c-1.5 1-2 1.5-2 3M12 18v.5",
    plus: "M12 5v14M5 12h14",
    spread: "M12 4v16M8 7l4-3 4 3M8 17l4 3 4-3M5 12h14",
    close: "M6 6l12 12M18 6L6 18",
    large: "M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7",
  };
  window.fedsca = window.fedsca || {};
  window.fedsca.Icon = {
    props: { name: String, size: { type: Number, default: 18 } },
    computed: { path() { return paths[this.name] || ""; } },
    template: `<svg class="icon" viewBox="0 0 24 24" :width="size" :height="size" aria-hidden="true"><path :d="path"/></svg>`,
  };
})();
