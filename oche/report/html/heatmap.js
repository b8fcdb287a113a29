"use strict";
// Heat maps of mixture weights over epochs, drawn as SVG and repainted as the slider moves.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"]
    .map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const LEFT = 112, ROW = 26, TOP = 4;

  function colour(t) {
    const x = Math.min(Math.max(t, 0), 1) * (VIRIDIS.length - 1);
    const i = Math.min(Math.floor(x), VIRIDIS.length - 2);
    return "rgb(" + VIRIDIS[i].map((c, k) => Math.round(c + (x - i) * (VIRIDIS[i + 1][k] - c))).join(",") + ")";
  }

  function add(parent, tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  // One heat map: built once, repainted for each epoch.
  function map(group, whose, readout) {
    const E = group.edges.length, O = group.candidates.length, dense = E > 16, column = dense ? 22 : 40;
    const bottom = dense ? 46 : 24, width = LEFT + E * column + 66, height = TOP + O * ROW + bottom;
    const holder = document.createElement("div");
    holder.className = "map";
    const heading = document.createElement("h3");
    heading.textContent = group.name;
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    const svg = add(scroll, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `weights of the ${group.name}` });
    svg.style.maxWidth = 1.35 * width + "px";
    svg.style.minWidth = (dense ? 0.8 : 0.72) * width + "px";
    group.candidates.forEach((name, o) => {
      const short = name.length > 16 ? name.slice(0, 15) + "…" : name;
      add(svg, "text", { x: LEFT - 8, y: TOP + (o + 0.5) * ROW + 4, "text-anchor": "end", "font-size": 12, fill: "currentColor" }, short);
    });
    group.edges.forEach((name, e) => {
      const x = LEFT + (e + 0.5) * column, y = TOP + O * ROW + (dense ? 8 : 17);
      const turn = dense ? { transform: `rotate(90 ${x - 4} ${y})`, x: x - 4, "text-anchor": "start" } : { x, "text-anchor": "middle" };
      add(svg, "text", { ...turn, y, "font-size": 12, fill: "currentColor" }, name);
    });
    const cells = group.edges.map((_, e) => group.candidates.map((_, o) => {
      const rect = add(svg, "rect", { x: LEFT + e * column + 0.5, y: TOP + o * ROW + 0.5, width: column - 1, height: ROW - 1 });
      const text = dense ? null : add(svg, "text", {
        x: LEFT + (e + 0.5) * column, y: TOP + (o + 0.5) * ROW + 4, "text-anchor": "middle", "font-size": 11, "pointer-events": "none" });
      const show = () => { readout.textContent = `${whose}${group.name}, ${group.edges[e]}, ${group.candidates[o]}: ${rect.dataset.value || "not recorded"}`; };
      rect.addEventListener("pointerenter", show);
      rect.addEventListener("click", show);
      return { rect, text };
    }));
    const frames = add(svg, "g", { fill: "none", stroke: "#ff4f3a", "stroke-width": 2.4, "pointer-events": "none" });
    scale(svg, group, LEFT + E * column + 14, O);
    holder.append(heading, scroll);
    return { holder, paint: (k) => paint(group, cells, frames, column, k) };
  }

  function scale(svg, group, x, O) {
    const steps = 32, height = O * ROW;
    for (let i = 0; i < steps; i++)
      add(svg, "rect", { x, y: TOP + (i * height) / steps, width: 12, height: height / steps + 0.4, fill: colour(1 - (i + 0.5) / steps) });
    for (const [t, value] of [[0, group.high], [0.5, (group.high + group.low) / 2], [1, group.low]])
      add(svg, "text", { x: x + 17, y: TOP + 8 + t * (height - 10), "font-size": 11, fill: "currentColor" }, value.toFixed(3));
  }

  function paint(group, cells, frames, column, k) {
    const frame = group.frames[k], span = group.high - group.low || 1, all = frame.flat();
    const digits = Math.max(...all) - Math.min(...all) >= 0.05 ? 2 : 3;  // early in a search the weights are almost equal
    cells.forEach((row, e) => row.forEach(({ rect, text }, o) => {
      const value = frame[e] ? frame[e][o] : undefined, known = value !== undefined;
      const t = known ? (value - group.low) / span : 0;
      rect.setAttribute("fill", known ? colour(group.high > group.low ? t : 0.5) : "none");
      rect.dataset.value = known ? value.toFixed(4) : "";
      if (text) {
        text.textContent = known ? value.toFixed(digits) : "";
        text.setAttribute("fill", t > 0.5 ? "#101418" : "#f6f8fa");
      }
    }));
    frames.replaceChildren();
    for (const [e, o] of group.chosen[k])
      add(frames, "rect", { x: LEFT + e * column + 2, y: TOP + o * ROW + 2, width: column - 4, height: ROW - 4, rx: 2 });
  }

  // The maps of one run. Runs of different lengths share a slider with `last` + 1 positions; each shows its epoch at the same share of its length.
  function run(data, many, readout) {
    const holder = document.createElement("div"), heading = document.createElement("h3"), ends = data.epochs.length - 1;
    if (many) holder.append(heading);
    const maps = data.groups.map((group) => map(group, (many ? data.name + ", " : ""), readout));
    holder.append(...maps.map((m) => m.holder));
    return {
      holder,
      paint: (place, last) => {
        const k = last ? Math.round(place * ends / last) : 0, reached = data.reached[k];
        maps.forEach((m) => m.paint(k));
        const said = `epoch ${data.epochs[k]} of ${data.epochs[ends]}` + (reached ? ` · ${reached}` : "");
        heading.textContent = `${data.name} · ${said}`;
        return said;
      },
    };
  }

  function heat(holder) {
    const data = JSON.parse(holder.querySelector("script").textContent), many = data.length > 1;
    const slider = holder.querySelector("input"), output = holder.querySelector("output"), play = holder.querySelector(".play");
    const runs = data.map((each) => run(each, many, holder.querySelector(".readout")));
    const last = Math.max(...data.map((each) => each.epochs.length)) - 1;
    slider.max = slider.value = last;
    holder.querySelector(".maps").append(...runs.map((r) => r.holder));
    const show = () => {
      const said = runs.map((r) => r.paint(Number(slider.value), last));
      output.textContent = many ? `${last ? Math.round(100 * slider.value / last) : 100} % of the search` : said[0];
    };
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "▶"; };
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(slider.value) === last) slider.value = 0;
      play.textContent = "❚❚";
      show();
      timer = setInterval(() => {
        if (Number(slider.value) >= last) return stop();
        slider.value = Number(slider.value) + 1;
        show();
      }, Math.max(60, Math.min(400, 8000 / (last + 1))));
    });
    slider.addEventListener("input", () => { stop(); show(); });
    slider.disabled = play.disabled = last === 0;
    show();
  }

  document.querySelectorAll(".heat").forEach(heat);
})();
