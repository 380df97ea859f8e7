// The whole: tools on the left, views in the middle, cards on the right; keys.
import "./icons.js";
import "./link.js";
import "./return.js";
import "./slice_view.js";
import "./panels.js";

(() => {
  const fedsca = window.fedsca, { act } = fedsca;
  const VIEWS = { Red: "Axial", Green: "Coronal", Yellow: "Sagittal" };
  const TOOLS = [["none", "W"], ["point", "P"], ["box", "B"], ["scribble", "S"], ["paint", "D"], ["erase", "X"]];

  // How a person has arranged the page: it stays when the page is built anew after a cut.
  fedsca.kept = window.Vue.reactive({ main: "Red", single: false, used: "Red", brush: 5 });

  const Workstation = {
    components: {
      FIcon: fedsca.Icon, SliceView: fedsca.SliceView, ServerCard: fedsca.ServerCard, CaseCard: fedsca.CaseCard, LabelCard: fedsca.LabelCard,
      PromptCard: fedsca.PromptCard, SubmitCard: fedsca.SubmitCard, Versions: fedsca.Versions, Help: fedsca.Help, LinkDialog: fedsca.LinkDialog,
    },
    props: { panel: Object, cases: Array, versions: Array, prompts: Object, texts: Object, keys: Array, presets: Array, life: String },
    data: () => ({ chosen: {}, kept: fedsca.kept, dialog: "", tools: TOOLS, titles: VIEWS }),
    computed: {
      live() { return { ...this.panel, ...this.chosen }; }, // what was pressed counts at once, before the workstation has confirmed it
      shown() { return this.kept.single ? [this.kept.main] : [this.kept.main, ...Object.keys(VIEWS).filter((name) => name !== this.kept.main)]; },
    },
    watch: {
      panel(now) { for (const name of Object.keys(this.chosen)) if (now[name] === this.chosen[name]) delete this.chosen[name]; },
      shown: { handler(names) { act("views", ...names); }, flush: "post" },
    },
    mounted() {
      fedsca.life = fedsca.life || this.life;
      fedsca.listen();
      act("views", ...this.shown);
      window.addEventListener("keydown", this.key);
      const client = window.trame?.client; // a new one after each cut, and a new element with it
      client?.onConnectionClose(() => { if (client === window.trame.client) fedsca.lost(); });
    },
    beforeUnmount() { window.removeEventListener("keydown", this.key); },
    methods: {
      act,
      tool(name) { this.chosen.tool = name; act("set_tool", name); },
      turn() { this.chosen.polarity = !this.live.polarity; act("set_polarity", this.chosen.polarity); },
      enlarge(name) { this.kept.main = name; this.kept.used = name; },
      notice(action) {
        if (action === "versions") this.dialog = "versions";
        else act("act", action);
      },
      key(event) {
        if (fedsca.link.phase !== "on") return;
        if (event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea")) {
          if (event.key === "Escape") event.target.blur();
          return;
        }
        const name = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.shiftKey ? "Shift+" : "") + (event.key.length === 1 ? event.key.toUpperCase() : event.key);
        const found = this.known()[name];
        if (!found || event.altKey) return;
        event.preventDefault();
        found();
      },
      known() {
        const slices = (steps) => () => fedsca.gesture(this.kept.used, "scroll", steps);
        const large = (name) => () => this.enlarge(name);
        const found = {
          T: () => this.turn(), E: () => act("next_label"), V: () => act("toggle_visible"), R: () => act("reset_prompts"),
          A: () => act("automatic"), G: () => act("propagate"), "Ctrl+Z": () => act("undo"), "Ctrl+Y": () => act("redo"), "Ctrl+Shift+Z": () => act("redo"),
          "Ctrl+Enter": () => act("submit"), "Shift+N": () => act("next_case"), F: () => { this.kept.single = !this.kept.single; }, 1: large("Red"), 2: large("Green"), 3: large("Yellow"),
          0: () => fedsca.gesture(this.kept.used, "fit"), "[": () => { this.kept.brush = Math.max(0.5, this.kept.brush - (this.kept.brush > 4 ? 1 : 0.5)); }, "]": () => { this.kept.brush = Math.min(30, this.kept.brush + (this.kept.brush >= 4 ? 1 : 0.5)); },
          ArrowUp: slices(1), ArrowDown: slices(-1), PageUp: slices(10), PageDown: slices(-10), "?": () => { this.dialog = "help"; }, "Shift+?": () => { this.dialog = "help"; },
          Escape: () => { if (this.dialog) this.dialog = ""; else act("cancel"); },
        };
        for (const [name, letter] of TOOLS) found[letter] = () => this.tool(name);
        return found;
      },
    },
    template: `
      <div class="workstation" v-if="panel && texts">
        <nav class="rail">
          <button v-for="[name, letter] in tools" :key="name" class="tool" :class="{ pressed: live.tool === name }" :data-tool="name" :disabled="panel.review && ['point', 'box', 'scribble'].includes(name)" :title="texts[name] + ' (' + letter + ')'" @click="tool(name)">
            <f-icon :name="name" :size="21"/><small>{{ texts[name] }}</small></button>
          <button class="tool sign" :class="live.polarity ? 'plus' : 'minus'" data-do="polarity" :title="(live.polarity ? texts.positive : texts.negative) + ' (T)'" @click="turn"><b>{{ live.polarity ? '+' : '−' }}</b><small>{{ live.polarity ? texts.positive : texts.negative }}</small></button>
          <hr/>
          <button class="tool" data-do="undo" :disabled="!panel.canUndo" :title="texts.undo + ' (Ctrl+Z)'" @click="act('undo')"><f-icon name="undo" :size="20"/></button>
          <button class="tool" data-do="redo" :disabled="!panel.canRedo" :title="texts.redo + ' (Ctrl+Y)'" @click="act('redo')"><f-icon name="redo" :size="20"/></button>
          <span class="grow"></span>
          <button class="tool" :title="texts.layout + ' (F)'" :class="{ pressed: kept.single }" @click="kept.single = !kept.single"><f-icon name="layout" :size="20"/></button>
          <button class="tool" :title="texts.keys + ' (?)'" data-do="help" @click="dialog = 'help'"><f-icon name="help" :size="20"/></button>
        </nav>
        <main class="views" :class="{ single: kept.single }">
          <slice-view v-for="name in shown" :key="name" :name="name" :title="titles[name]" :panel="live" :prompts="prompts" :texts="texts" :presets="presets" :large="name === kept.main" :used="!kept.single && name === kept.used" :brush="kept.brush" @enlarge="enlarge" @use="kept.used = $event"/>
          <div class="welcome" v-if="!panel.case && !panel.busy"><f-icon name="scribble" :size="44"/><p>{{ panel.connection === 'on' ? texts.welcome : texts.welcomeOff }}</p></div>
          <div class="toasts">
            <div class="toast busy" v-if="panel.busy"><i class="spinner"></i><span>{{ panel.busy }}</span><div class="bar" v-if="panel.progress !== null"><i :style="{ width: 100 * panel.progress + '%' }"></i></div><button class="link" @click="act('cancel')">{{ texts.cancel }}</button></div>
            <div class="toast" v-if="panel.notice" :class="panel.notice.kind" data-notice><span>{{ panel.notice.text }}</span>
              <button class="primary" v-if="panel.notice.button" data-do="notice" @click="notice(panel.notice.action)">{{ panel.notice.button }}</button>
              <button v-if="panel.notice.action === 'draft'" @click="act('drop_draft')">{{ texts.drop }}</button>
              <button class="ghost" :title="texts.dismiss" data-do="dismiss" @click="act('dismiss_notice')"><f-icon name="close" :size="15"/></button></div>
          </div>
          <div class="banner" v-if="panel.review">{{ texts.reviewing }}</div>
        </main>
        <aside class="side">
          <server-card :panel="panel" :texts="texts" @versions="dialog = 'versions'"/>
          <template v-if="panel.server"><case-card :panel="panel" :texts="texts" :cases="cases"/>
          <label-card :panel="panel" :texts="texts"/><prompt-card :panel="live" :texts="texts" :brush="kept.brush" @brush="kept.brush = $event"/>
          <span class="grow"></span><submit-card :panel="panel" :texts="texts"/></template>
        </aside>
        <versions v-if="dialog === 'versions'" :panel="panel" :texts="texts" :versions="versions" @close="dialog = ''"/>
        <help v-if="dialog === 'help'" :panel="panel" :texts="texts" :keys="keys" @close="dialog = ''"/>
        <link-dialog :texts="texts"/>
      </div>`,
  };
  window.fedscaWorkstation = { install(app) { app.component("fedsca-workstation", Workstation); } };
})();
