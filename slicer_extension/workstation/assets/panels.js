// The cards beside the views. They show what the workstation says and send what is pressed.
(() => {
  const fedsca = window.fedsca, { act, Icon } = fedsca;
  const common = { components: { FIcon: Icon }, props: { panel: Object, texts: Object } };

  fedsca.ServerCard = {
    ...common,
    emits: ["versions"],
    data: () => ({ address: "", user: "", password: "" }),
    computed: {
      on() { return ["on", "lost"].includes(this.panel.connection); },
      state() {
        const { texts, panel } = this;
        return { off: texts.off, connecting: texts.connecting, login: texts.needsLogin, lost: texts.lost, on: panel.server?.site || "" }[panel.connection];
      },
      facts() { return this.panel.server ? ["base", "version", "tuning", "round"].map((name) => ({ name, ...this.panel.server.facts[name] })) : []; },
    },
    watch: { "panel.address": { immediate: true, handler(value) { this.address = value; } } },
    methods: {
      act,
      login() { act("login", this.user || this.panel.user, this.password); this.password = ""; },
    },
    template: `
      <section class="card server" :data-connection="panel.connection">
        <header><i class="dot"></i><h2>{{ state }}</h2><span class="grow"></span>
          <button class="link" v-if="on" @click="act('disconnect')">{{ texts.disconnect }}</button></header>
        <template v-if="on && panel.server">
          <p class="muted ellipsis">{{ panel.user ? panel.user + ' · ' : '' }}{{ panel.address }}</p>
          <dl><template v-for="fact in facts" :key="fact.name"><dt>{{ texts[fact.name] }}</dt><dd :title="fact.detail" :data-fact="fact.name">{{ fact.text }}</dd></template></dl>
          <div class="bar" v-if="panel.server.fraction !== null"><i :style="{ width: 100 * panel.server.fraction + '%' }"></i></div>
          <button class="link" data-do="versions" @click="$emit('versions')">{{ texts.versions }}</button>
        </template>
        <form v-else-if="panel.connection === 'login'" @submit.prevent="login">
          <p class="muted ellipsis">{{ panel.address }}</p>
          <input v-model="user" :placeholder="panel.user || texts.user" autocomplete="username"/>
          <input v-model="password" type="password" :placeholder="texts.password" autocomplete="current-password"/>
          <div class="row"><button class="primary">{{ texts.login }}</button><button type="button" @click="act('disconnect')">{{ texts.cancel }}</button></div>
        </form>
        <form v-else @submit.prevent="act('connect', address)">
          <label class="muted">{{ texts.address }}</label>
          <input v-model="address" placeholder="http://127.0.0.1:8000" spellcheck="false"/>
          <div class="row"><button class="primary" :disabled="panel.connection === 'connecting'">{{ texts.connect }}</button>
            <button type="button" @click="act('test_connection', address)">{{ texts.test }}</button></div>
          <p class="muted small">{{ texts.optIn }}</p>
        </form>
      </section>`,
  };

  fedsca.CaseCard = {
    ...common,
    props: { ...common.props, cases: Array },
    data() { return { listed: !this.panel.case, search: "", sending: "", failed: "" }; }, // who has no case open chooses one
    computed: {
      found() {
        const wanted = this.search.toLowerCase();
        return (this.cases || []).filter((item) => item.id.toLowerCase().includes(wanted)).slice(0, 200);
      },
      count() { return this.texts.labelledOf.replace("{labelled}", this.panel.labelled).replace("{total}", this.panel.total); },
    },
    watch: { "panel.case"(now, before) { if (now && !before) this.listed = false; } },
    methods: {
      act,
      open(item, tag) { this.listed = false; act("open_case", item.id, ...(tag === undefined ? [] : [tag])); },
      async upload(event) {
        const file = event.target.files[0];
        event.target.value = "";
        if (!file) return;
        this.sending = file.name;
        this.failed = "";
        try {
          await fetch("own-image?name=" + encodeURIComponent(file.name), { method: "POST", body: file }); // a refusal is told by the workstation
        } catch {
          this.failed = file.name;
        }
        this.sending = "";
      },
    },
    template: `
      <section class="card case">
        <header><h2 class="ellipsis" :title="panel.case">{{ panel.case || texts.noCase }}</h2><span class="chip" v-if="panel.caseTag">{{ panel.caseTag }}</span></header>
        <p class="muted">{{ count }}</p>
        <div class="row">
          <button class="primary" data-do="next" :disabled="panel.connection !== 'on'" @click="act('next_case')">{{ texts.next }}</button>
          <button :disabled="!panel.case" @click="act('skip_case')">{{ texts.skip }}</button>
          <button data-do="cases" :class="{ pressed: listed }" @click="listed = !listed; act('refresh_cases')">{{ texts.cases }}</button>
        </div>
        <div v-if="listed" class="worklist">
          <input v-model="search" :placeholder="texts.search" spellcheck="false"/>
          <ul><li v-for="item in found" :key="item.id" :class="{ chosen: item.id === panel.case }" :data-case="item.id" @click="open(item)">
            <span class="ellipsis">{{ item.id }}</span><span class="chip" v-for="tag in item.tags" :key="tag" @click.stop="open(item, tag)">{{ tag }}</span></li></ul>
          <div class="field" v-if="panel.strategies.length > 1"><label class="muted">{{ texts.strategy }}</label>
            <select :value="panel.strategy" @change="act('set_strategy', $event.target.value)"><option v-for="name in panel.strategies" :key="name">{{ name }}</option></select></div>
          <label class="link file">{{ texts.upload }}<input type="file" @change="upload"/></label>
          <p class="muted small" v-if="sending">{{ texts.sending.replace('{name}', sending) }}</p>
          <p class="wrong small" v-if="failed">{{ texts.sendFailed.replace('{name}', failed) }}</p>
        </div>
      </section>`,
  };

  fedsca.LabelCard = {
    ...common,
    data: () => ({ name: "" }),
    methods: {
      act,
      add() { if (this.name.trim()) act("add_label", this.name); this.name = ""; },
    },
    template: `
      <section class="card labels" v-if="panel.case">
        <header><h2>{{ texts.labels }}</h2></header>
        <ul><li v-for="label in panel.labels" :key="label.name" :class="{ chosen: label.name === panel.label, off: !label.visible }" :data-label="label.name" @click="act('select_label', label.name)">
          <i class="swatch" :style="{ background: label.color }"></i><span class="ellipsis grow">{{ label.name }}</span><span class="muted">{{ label.value }}</span>
          <button class="ghost" :class="{ on: label.locked }" data-do="lock" :title="texts.lock" @click.stop="act('set_locked', label.name, !label.locked)"><f-icon :name="label.locked ? 'lock' : 'open'" :size="15"/></button>
          <button class="ghost" :title="texts.visible + ' (V)'" @click.stop="act('set_visible', label.name, !label.visible)"><f-icon :name="label.visible ? 'eye' : 'hidden'" :size="15"/></button>
        </li></ul>
        <form class="row" @submit.prevent="add"><input v-model="name" :placeholder="texts.addLabel"/><button :disabled="!name.trim()"><f-icon name="plus" :size="14"/></button></form>
      </section>`,
  };

  fedsca.PromptCard = {
    ...common,
    props: { ...common.props, brush: Number },
    emits: ["brush"],
    computed: {
      brushing() { return ["paint", "erase", "scribble"].includes(this.panel.tool); },
    },
    methods: { act },
    template: `
      <section class="card prompting" v-if="panel.case">
        <header><h2>{{ texts.prompting }}</h2><span class="grow"></span><span class="muted" v-if="panel.roundTrip !== null">{{ texts.roundTrip.replace('{ms}', panel.roundTrip) }}</span></header>
        <div class="segmented polarity">
          <button :class="{ pressed: panel.polarity, plus: true }" @click="act('set_polarity', true)">+ {{ texts.positive }}</button>
          <button :class="{ pressed: !panel.polarity, minus: true }" @click="act('set_polarity', false)">− {{ texts.negative }}</button>
        </div>
        <div class="field"><label class="muted">{{ texts.mode }}</label>
          <div class="segmented grow"><button v-for="mode in ['replace', 'add', 'subtract']" :key="mode" :data-mode="mode" :class="{ pressed: panel.mode === mode }" @click="act('set_mode', mode)">{{ texts[mode] }}</button></div></div>
        <div class="field" v-if="brushing"><label class="muted">{{ texts.brush }}</label>
          <input type="range" min="0.5" max="30" step="0.5" :value="brush" @input="$emit('brush', Number($event.target.value))"/><span class="muted">{{ brush }}</span></div>
        <div class="grid2">
          <button @click="act('automatic')" :disabled="panel.review" :title="'A'">{{ texts.automatic }}</button>
          <button data-do="propagate" @click="act('propagate')" :disabled="!panel.canPropagate" title="G"><f-icon name="spread" :size="15"/>{{ texts.propagate }}</button>
          <button @click="act('segment_volume')" :disabled="panel.review">{{ texts.volume }}</button>
          <button @click="act('reset_prompts')" title="R">{{ texts.reset }}</button>
        </div>
      </section>`,
  };

  fedsca.SubmitCard = {
    ...common,
    methods: { act },
    template: `
      <section class="card submit" v-if="panel.case">
        <div class="row"><button class="submit-button" data-do="submit" :disabled="panel.submitting || panel.connection === 'off'" @click="act('submit')" title="Ctrl+Enter">{{ panel.submitting ? texts.submitting : texts.submit }}</button>
          <label class="muted">{{ texts.tag }}</label>
          <input class="tag" list="tags" :value="panel.tag" @change="act('set_tag', $event.target.value)"/><datalist id="tags"><option v-for="tag in panel.tags" :key="tag" :value="tag"/></datalist></div>
        <p class="muted small">{{ panel.unsaved ? texts.unsaved : panel.caseTag ? texts.submitted : '' }}&nbsp;</p>
        <label class="check"><input type="checkbox" :checked="panel.review" @change="act('set_review', $event.target.checked)"/>{{ texts.review }}</label>
      </section>`,
  };

  fedsca.Versions = {
    ...common,
    props: { ...common.props, versions: Array },
    emits: ["close"],
    data: () => ({ reason: "" }),
    mounted() { act("refresh_versions"); },
    methods: {
      use(version) { act("activate", version.id, ...(this.reason.trim() ? [this.reason.trim()] : [])); this.$emit("close"); },
    },
    template: `
      <div class="shade" @click.self="$emit('close')"><div class="dialog versions" role="dialog">
        <header><h2>{{ texts.versionsTitle }}</h2><span class="grow"></span><button class="ghost" :title="texts.close" @click="$emit('close')"><f-icon name="close"/></button></header>
        <p class="muted">{{ texts.versionsHint }}</p>
        <ul><li v-for="version in versions" :key="version.id" :class="{ chosen: version.active }" :title="version.detail" :data-version="version.id">
          <code>{{ version.name }}</code><span class="muted grow">{{ version.origin }}</span><span class="dice">{{ version.dice }}</span>
          <span class="chip good" v-if="version.active">{{ texts.active }}</span>
          <button v-if="version.use" data-do="activate" @click="use(version)">{{ version.active ? texts.goOn : texts.activate }}</button></li></ul>
        <input v-model="reason" :placeholder="texts.reason"/>
      </div></div>`,
  };

  fedsca.Help = {
    ...common,
    props: { ...common.props, keys: Array },
    emits: ["close"],
    template: `
      <div class="shade" @click.self="$emit('close')"><div class="dialog help" role="dialog">
        <header><h2>{{ texts.keys }}</h2><span class="grow"></span><button class="ghost" :title="texts.close" @click="$emit('close')"><f-icon name="close"/></button></header>
        <dl><template v-for="[key, text] in keys" :key="key"><dt><kbd>{{ key }}</kbd></dt><dd>{{ text }}</dd></template></dl>
        <p class="muted">{{ texts.mouse }}</p>
      </div></div>`,
  };
})();
