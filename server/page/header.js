import { html, useState } from "./vendor/preact.js";
import { count, duration } from "./text.js";

export function Header({ tabs, tab, onTab, versions, targets, picked, onPick, status }) {
  const [main, other] = targets;
  const ready = versions.filter((each) => each.state === "STATE_READY");
  const keys = ready.map((each) => ({ key: `${each.name}/${each.version}`, text: name(each, ready), pictures: each.takes_images }));
  const arrow = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    onTab(next);
    document.getElementById(`tab-${next}`).focus();
  };
  return html`
    <header>
      <h1>PixelServe</h1>
      ${main && html`
        <label><span class="word">Model</span> <${Choice} value=${main.key} keys=${keys} onPick=${(key) => onPick({ ...picked, main: key })} /></label>
        <label>Compare with <${Choice} value=${other?.key ?? ""} keys=${[{ key: "", text: "nothing" }, ...keys.filter(({ key, pictures }) => pictures && key !== main.key)]}
          onPick=${(key) => onPick({ ...picked, other: key })} /></label>`}
      <span class="space"></span>
      <${Status} status=${status} />
      <${Theme} />
    </header>
    <nav aria-label="Views"><div role="tablist" onKeyDown=${arrow}>
      ${tabs.map((each, i) => html`
        <button role="tab" id=${`tab-${each}`} key=${each} aria-selected=${each === tab} aria-controls="panel"
          tabindex=${each === tab ? 0 : -1} aria-keyshortcuts=${i + 1} onClick=${() => onTab(each)}>${each}</button>`)}
    </div></nav>`;
}

function Status({ status }) {
  if (!status?.text) return null;
  const figures = [
    status.rate !== undefined && `${count(status.rate)} requests/s`,
    status.p99 && `p99 ${duration(status.p99)}`,
  ].filter(Boolean);
  return html`
    <p class="status"><span class=${status.isReady ? "" : "down"}><i class="dot"></i>${status.text}</span>
      ${figures.map((text) => html`<span class="rate" key=${text}>${text}</span>`)}</p>`;
}

function Choice({ value, keys, onPick }) {
  return html`
    <select value=${value} onChange=${(event) => onPick(event.currentTarget.value)}>
      ${keys.map(({ key, text }) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>`;
}

function Theme() {
  const [theme, setTheme] = useState("");
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const turn = () => {
    const next = isDark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    setTheme(next);
  };
  return html`<button class="quiet" onClick=${turn}>${isDark ? "Light" : "Dark"}</button>`;
}

// Shows the version number only if a model has several.
function name(each, ready) {
  const several = ready.filter((other) => other.name === each.name).length > 1;
  return several ? `${each.name} ${[each.version, ...each.aliases].join(" ")}` : each.name;
}
