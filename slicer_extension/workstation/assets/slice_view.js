// One slice view: its picture, what is drawn over it, and the mouse. All places are in pixels of the picture; voxels come from the matrix that comes with each picture.
(() => {
  const fedsca = window.fedsca;
  const NEAR = 9; // pixels within which a click means a point that is there
  const NOTCH = 40; // of a wheel's or trackpad's units, for one slice
  const PLUS = "#3ddc84", MINUS = "#ff6b5e", BOX = "#7cc4ff";
  const COLUMN_ROW = { i: [1, 2], j: [0, 2], k: [0, 1] };
  const scroll = fedsca.movement("scroll", (a, b) => [a[0] + b[0]]);
  const slice = fedsca.movement("slice", (_, b) => b);
  const pan = fedsca.movement("pan", (a, b) => [a[0] + b[0], a[1] + b[1]]);
  const zoom = fedsca.movement("zoom", (a, b) => [a[0] * b[0], b[1], b[2]]);
  const windowing = fedsca.movement("window", (a, b) => [a[0] + b[0], a[1] + b[1]]);
  const paint = fedsca.movement("paint", (a, b) => [b[0], b[1], b[2], a[3], a[4].concat(b[4]), b[5]]);

  fedsca.SliceView = {
    components: { FIcon: fedsca.Icon },
    props: { name: String, title: String, panel: Object, prompts: Object, texts: Object, presets: Array, large: Boolean, brush: Number, used: Boolean },
    emits: ["enlarge", "use"],
    data: () => ({ meta: { index: -1, count: 0, letters: {}, window: null, axis: "" }, menu: false, size: [1, 1] }),
    computed: {
      ready() { return this.meta.count > 0; },
      thumb() { return this.meta.count > 1 ? (100 * this.meta.index) / (this.meta.count - 1) : 0; },
      cursor() {
        if (!this.ready) return "default";
        return { none: "default", point: "crosshair", box: "crosshair", scribble: "crosshair", paint: "none", erase: "none" }[this.panel.tool] || "default";
      },
      color() { return this.panel.labels.find((label) => label.name === this.panel.label)?.color || "rgb(255,255,255)"; },
      length() { // a round length of about a fifth of the view, in mm
        if (!this.ready || !this.meta.mm) return null;
        const wanted = this.size[0] * 0.18 * this.meta.mm;
        const step = [1, 2, 5, 10, 20, 50, 100, 200].filter((mm) => mm <= wanted).pop() || 1;
        return { mm: step, width: (100 * step) / this.meta.mm / this.size[0] };
      },
    },
    watch: {
      prompts() { this.ghosts = []; this.ink(); },
      panel() { this.ink(); },
      brush() { this.ink(); },
    },
    created() {
      this.drag = null; this.mouse = null; this.ghosts = []; this.turned = 0;
    },
    mounted() {
      fedsca.watch(this.name, (bitmap, meta) => this.draw(bitmap, meta));
      (fedsca.views = fedsca.views || {})[this.name] = this;
      this.observer = new ResizeObserver(() => this.resized());
      this.observer.observe(this.$refs.root);
      this.resized();
    },
    beforeUnmount() { this.observer.disconnect(); },
    methods: {
      resized() {
        const box = this.$refs.root.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
        const size = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
        if (size[0] > 10 && size[1] > 10 && (size[0] !== this.size[0] || size[1] !== this.size[1])) {
          this.size = size;
          fedsca.gesture(this.name, "size", ...size);
        }
      },
      draw(bitmap, meta) {
        const canvas = this.$refs.image;
        if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) { canvas.width = bitmap.width; canvas.height = bitmap.height; }
        canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
        this.meta = meta;
        this.ink();
      },

      // Places
      at(event) {
        const box = this.$refs.root.getBoundingClientRect(), canvas = this.$refs.image;
        return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
      },
      pixel([x, y]) { // column and row of the slice, in parts
        const [column, row] = COLUMN_ROW[this.meta.axis], m = this.meta.to_ijk;
        const of = (n) => m[n][0] * x + m[n][1] * y + m[n][2];
        return [of(column), of(row)];
      },
      place([column, row]) { // the inverse
        const [c, r] = COLUMN_ROW[this.meta.axis], m = this.meta.to_ijk;
        const det = m[c][0] * m[r][1] - m[c][1] * m[r][0], u = column - m[c][2], v = row - m[r][2];
        return [(u * m[r][1] - v * m[c][1]) / det, (v * m[c][0] - u * m[r][0]) / det];
      },
      voxel(at) {
        const pixel = this.pixel(at).map((part) => Math.floor(part + 0.5)), found = [0, 0, 0];
        const [c, r] = COLUMN_ROW[this.meta.axis];
        found[c] = pixel[0]; found[r] = pixel[1]; found["ijk".indexOf(this.meta.axis)] = this.meta.index;
        return found;
      },
      zoomed() { // picture's pixels per pixel of the slice
        const a = this.place([0, 0]), b = this.place([1, 0]);
        return Math.hypot(b[0] - a[0], b[1] - a[1]);
      },
      shown() { // the prompts, where they belong to the slice in the picture
        const found = this.prompts?.[this.name];
        return found && found.axis === this.meta.axis && found.index === this.meta.index ? found : null;
      },
      near(at) {
        return this.shown()?.points.find((point) => {
          const [x, y] = this.place([point.x, point.y]);
          return Math.hypot(x - at[0], y - at[1]) < NEAR * (window.devicePixelRatio || 1);
        });
      },

      // Mouse
      wheel(event) {
        if (!this.ready) return;
        const at = this.at(event), canvas = this.$refs.image;
        if (event.ctrlKey || event.metaKey) zoom(this.name, Math.exp(-event.deltaY / 400), at[0] / canvas.width, at[1] / canvas.height);
        else this.turn(event);
      },
      turn(event) { // a wheel's notch is a slice; a trackpad sends many small steps, which add up to one
        const notch = event.deltaMode !== 0 || Math.abs(event.deltaY) >= NOTCH;
        this.turned = notch ? 0 : (Math.sign(event.deltaY) === Math.sign(this.turned) ? this.turned : 0) + event.deltaY;
        const steps = notch ? Math.sign(event.deltaY) : Math.trunc(this.turned / NOTCH);
        if (!notch) this.turned -= steps * NOTCH;
        if (steps) scroll(this.name, steps);
      },
      down(event) {
        document.activeElement?.blur?.(); // keys are the tools' again, also after a name was typed
        if (!this.ready) return;
        this.$emit("use", this.name);
        const at = this.at(event), tool = this.panel.tool;
        this.$refs.root.setPointerCapture(event.pointerId);
        const start = (kind, more = {}) => { this.drag = { kind, from: at, last: at, moved: false, ...more }; };
        if (event.button === 1) return start("pan");
        if (event.button === 2) return start("window", { point: this.near(at) });
        if (event.button !== 0) return;
        if (event.shiftKey) { fedsca.gesture(this.name, "jump", this.voxel(at)); return; }
        const opposite = event.ctrlKey || event.metaKey, positive = this.panel.polarity !== opposite;
        if (tool === "none") return start("window", {});
        if (tool === "point") {
          const there = this.near(at);
          if (there) return start("move", { point: there });
          this.ghosts.push({ at: this.pixel(at).map((part) => Math.floor(part + 0.5)), positive });
          fedsca.gesture(this.name, "point", this.voxel(at), this.meta.axis, positive);
          return this.ink();
        }
        if (tool === "box") return start("box");
        const path = [this.pixel(at)];
        if (tool === "scribble") return start("scribble", { path, positive, axis: this.meta.axis, index: this.meta.index });
        start("paint", { path, axis: this.meta.axis, index: this.meta.index, erase: (tool === "erase") !== opposite, begun: false });
        this.stroke(path);
      },
      move(event) {
        if (!this.ready) return;
        const at = this.at(event), drag = this.drag, canvas = this.$refs.image;
        this.mouse = at;
        if (drag) {
          drag.moved = drag.moved || Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 3;
          const dx = (at[0] - drag.last[0]) / canvas.width, dy = (at[1] - drag.last[1]) / canvas.height;
          if (drag.kind === "pan") pan(this.name, dx, dy);
          else if (drag.kind === "window" && drag.moved) windowing(this.name, dx, dy);
          else if (drag.kind === "scribble" || drag.kind === "paint") {
            const step = this.pixel(at), last = drag.path[drag.path.length - 1];
            if (Math.hypot(step[0] - last[0], step[1] - last[1]) > 0.35) {
              drag.path.push(step);
              if (drag.kind === "paint") this.stroke([last, step]);
            }
          }
          drag.last = at;
        }
        this.ink();
      },
      up(event) {
        const drag = this.drag;
        this.drag = null;
        if (!drag || !this.ready) return;
        const at = this.at(event);
        if (drag.kind === "window" && !drag.moved && drag.point) fedsca.gesture(this.name, "remove_point", drag.point.ijk, this.meta.axis);
        else if (drag.kind === "move" && drag.moved) fedsca.gesture(this.name, "move_point", drag.point.ijk, this.voxel(at), this.meta.axis);
        else if (drag.kind === "box" && drag.moved) {
          const a = this.pixel(drag.from), b = this.pixel(at), round = (part) => Math.floor(part + 0.5);
          fedsca.gesture(this.name, "box", this.meta.axis, this.meta.index, round(a[0]), round(a[1]), round(b[0]), round(b[1]));
        } else if (drag.kind === "scribble") {
          fedsca.gesture(this.name, "scribble", drag.axis, drag.index, drag.positive, drag.path, Math.max(1, this.brush / 4));
        }
        this.ink();
      },
      leave() { this.mouse = null; this.ink(); },
      stroke(path) {
        const drag = this.drag;
        paint(this.name, drag.axis, drag.index, drag.erase, drag.begun, path, this.brush);
        drag.begun = true;
      },
      slide(event) {
        if (event.buttons !== 1 || this.meta.count < 2) return;
        const box = this.$refs.track.getBoundingClientRect(), part = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 1);
        event.target.setPointerCapture?.(event.pointerId);
        slice(this.name, Math.round(part * (this.meta.count - 1)));
      },
      preset(number) { this.menu = false; fedsca.gesture(this.name, "preset", number); },
      fit() { fedsca.gesture(this.name, "fit"); },

      // What is drawn over the picture
      ink() {
        const canvas = this.$refs.ink, image = this.$refs.image;
        if (!canvas) return;
        if (canvas.width !== image.width || canvas.height !== image.height) { canvas.width = image.width; canvas.height = image.height; }
        const pen = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
        pen.clearRect(0, 0, canvas.width, canvas.height);
        if (!this.ready) return;
        const found = this.shown();
        if (found?.scribble) this.drawScribble(pen, found.scribble);
        if (found?.box && this.drag?.kind !== "box") this.drawBox(pen, this.place([found.box[0] - 0.5, found.box[1] - 0.5]), this.place([found.box[2] + 0.5, found.box[3] + 0.5]));
        for (const point of found?.points || []) {
          const dragged = this.drag?.kind === "move" && this.drag.moved && this.drag.point === point;
          this.drawPoint(pen, dragged ? this.mouse : this.place([point.x, point.y]), point.positive, ratio);
        }
        for (const ghost of this.ghosts) this.drawPoint(pen, this.place(ghost.at), ghost.positive, ratio);
        const drag = this.drag;
        if (drag?.kind === "box") this.drawBox(pen, drag.from, this.mouse || drag.from);
        if (drag?.kind === "scribble") this.drawPath(pen, drag.path, drag.positive ? PLUS : MINUS, 2 * Math.max(1, this.brush / 4));
        if (this.mouse && ["paint", "erase"].includes(this.panel.tool)) {
          pen.beginPath();
          pen.arc(this.mouse[0], this.mouse[1], Math.max(this.brush, 0.5) * this.zoomed(), 0, 2 * Math.PI);
          pen.lineWidth = 1.5 * ratio;
          pen.strokeStyle = this.panel.tool === "erase" ? MINUS : this.color;
          pen.stroke();
        }
      },
      drawPoint(pen, [x, y], positive, ratio) {
        const radius = 6.5 * ratio, arm = 3.2 * ratio;
        pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI);
        pen.fillStyle = positive ? PLUS : MINUS; pen.fill();
        pen.lineWidth = 1.5 * ratio; pen.strokeStyle = "rgba(8,12,16,.85)"; pen.stroke();
        pen.beginPath(); pen.moveTo(x - arm, y); pen.lineTo(x + arm, y);
        if (positive) { pen.moveTo(x, y - arm); pen.lineTo(x, y + arm); }
        pen.lineWidth = 1.8 * ratio; pen.strokeStyle = "#08130c"; pen.stroke();
      },
      drawBox(pen, a, b) {
        pen.lineWidth = 1.5 * (window.devicePixelRatio || 1);
        pen.strokeStyle = BOX; pen.setLineDash([6, 4]);
        pen.strokeRect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1]));
        pen.setLineDash([]);
      },
      drawPath(pen, path, color, width) {
        pen.beginPath();
        path.forEach((step, n) => { const [x, y] = this.place(step); n ? pen.lineTo(x, y) : pen.moveTo(x, y); });
        if (path.length === 1) { const [x, y] = this.place(path[0]); pen.lineTo(x + 0.1, y); }
        pen.lineCap = pen.lineJoin = "round"; pen.lineWidth = Math.max(width * this.zoomed(), 2); pen.strokeStyle = color; pen.globalAlpha = 0.75; pen.stroke(); pen.globalAlpha = 1;
      },
      drawScribble(pen, { box: [x0, y0, x1], codes }) {
        const bytes = atob(codes), columns = x1 - x0 + 1;
        pen.globalAlpha = 0.65;
        for (let n = 0; n < bytes.length; n++) {
          const code = bytes.charCodeAt(n);
          if (!code) continue;
          const x = x0 + (n % columns), y = y0 + Math.floor(n / columns), a = this.place([x - 0.5, y - 0.5]), b = this.place([x + 0.5, y + 0.5]);
          pen.fillStyle = code & 1 ? PLUS : MINUS;
          pen.fillRect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1]));
        }
        pen.globalAlpha = 1;
      },
    },
    template: `
      <div class="view" :class="{ large, used }" :data-view="name" :data-index="meta.index" :data-axis="meta.axis">
        <div class="surface" ref="root" :style="{ cursor }" @wheel.prevent="wheel" @pointerdown.prevent="down" @pointermove="move" @pointerup="up" @pointercancel="up" @pointerleave="leave" @contextmenu.prevent>
          <canvas ref="image" class="picture"></canvas>
          <canvas ref="ink" class="ink"></canvas>
        </div>
        <template v-if="ready">
          <div class="corner top left"><b>{{ title }}</b><span>{{ meta.index + 1 }} / {{ meta.count }}</span></div>
          <div class="edge e-top">{{ meta.letters.top }}</div><div class="edge e-bottom">{{ meta.letters.bottom }}</div>
          <div class="edge e-left">{{ meta.letters.left }}</div><div class="edge e-right">{{ meta.letters.right }}</div>
          <div class="corner bottom left" v-if="meta.window">
            <button class="ghost" @click="menu = !menu" :title="texts.window">W {{ Math.round(meta.window[0]) }} · L {{ Math.round(meta.window[1]) }}</button>
            <div class="menu" v-if="menu"><button v-for="(text, n) in presets" :key="n" @click="preset(n)">{{ text }}</button></div>
          </div>
          <div class="corner top right">
            <button class="ghost" @click="fit" :title="texts.fit + ' (0)'"><f-icon name="fit" :size="15"/></button>
            <button class="ghost" v-if="!large" @click="$emit('enlarge', name)" :title="texts.layout"><f-icon name="large" :size="15"/></button>
          </div>
          <div class="ruler" v-if="length" :style="{ width: length.width + '%' }"><span>{{ length.mm }} mm</span></div>
          <div class="track" ref="track" v-if="meta.count > 1" :title="texts.slice" @pointerdown.prevent="slide" @pointermove="slide"><i :style="{ top: thumb + '%' }"></i></div>
        </template>
      </div>`,
  };
})();
