"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const arrays = { Uint8: Uint8Array, Int8: Int8Array, Uint16: Uint16Array, Int16: Int16Array };
  const decode = (text, kind) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new arrays[kind](bytes.buffer);
  };
  const triangles = decode(data.triangles, "Uint16");
  const contours = decode(data.contours, "Uint16");
  const count = data.names.length;
  const themes = {
    light: { ink: "#1c1b22", soft: "#5d5b68", line: "#dedce3", accent: "#31688e", other: "#b5367a",
             stroke: "rgba(255,255,255,0.85)", hover: "#ffffff" },
    dark: { ink: "#ecebf1", soft: "#a9a6b6", line: "#35333f", accent: "#7fc8d6", other: "#f0a5cf",
            stroke: "rgba(255,255,255,0.85)", hover: "#1b1a22" },
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = dark.matches ? themes.dark : themes.light;
  const webgl = Boolean(document.createElement("canvas").getContext("webgl"));

  // --- colours -----------------------------------------------------------------------------
  const parse = (colour) => colour.startsWith("#")
    ? [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
    : colour.match(/\d+/g).map(Number);
  const viridis = data.viridis.map(parse);
  const ramps = { relevance: viridis, absolute: viridis, signed: data.diverging.map(parse) };
  const css = (rgb) => `rgb(${rgb.map(Math.round).join(",")})`;
  const colourAt = (ramp, fraction) => {
    const at = Math.min(Math.max(fraction, 0), 1) * (ramp.length - 1);
    const i = Math.min(Math.floor(at), ramp.length - 2);
    return css(ramp[i].map((c, k) => c + (ramp[i + 1][k] - c) * (at - i)));
  };
  const scaleOf = (name) =>
    ramps[name].map((rgb, i, all) => [i / (all.length - 1), css(rgb)]);
  for (const ramp of document.querySelectorAll(".ramp")) {
    ramp.style.background = `linear-gradient(90deg, ${viridis.map(css).join(",")})`;
  }

  // --- numbers -----------------------------------------------------------------------------
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const percent = (x) => `${x < 10 ? x.toPrecision(2) : x.toFixed(0)} %`;
  const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toPrecision(2)}`;

  const words = { relevance: "relevance", absolute: "absolute attribution", signed: "logits" };

  /** Unpacks an emotion's arrays once. */
  function unpack(explanation) {
    const faces = decode(explanation.faces.data, "Int16");
    const measures = {};
    for (const [name, kind] of [["relevance", "Uint8"], ["absolute", "Uint8"], ["signed", "Int8"]]) {
      const source = explanation[name];
      const unit = name === "signed" ? 1 : 100 / (sum(source.clip) || 1);
      const instants = Float32Array.from(
        decode(source.instants.data, kind), (v) => v * source.instants.factor * unit);
      const clip = Float32Array.from(source.clip, (v) => v * unit);
      // Relevance has a long tail: the ten strongest share the last colour, so that the rest shows.
      const strong = (values) =>
        Array.from(values, Math.abs).sort((a, b) => b - a)[Math.floor(values.length / count * 9)] || 1;
      measures[name] = {
        clip, instants, unit, clipMax: strong(clip), instantMax: strong(instants),
        regions: source.regions.map((v) => v * unit),
        units: source.units.map((v) => v * unit),
        heat: source.heat.map((row) => row.map((v) => v * unit)),
        time: source.time,
      };
    }
    const axis = (instant, k) => Float32Array.from(
      { length: count }, (_, i) => faces[(instant * count + i) * 3 + k] * explanation.faces.factor);
    return { measures, at: (instant) => [0, 1, 2].map((k) => axis(instant, k)) };
  }
  for (const emotion of data.emotions) {
    if (emotion.explanation) Object.assign(emotion, unpack(emotion.explanation));
  }

  /** What colours the face: values, their range, and their colour map. */
  function colouring(emotion, state) {
    const measure = emotion.measures[state.measure];
    const whole = state.when === "clip";
    const values = whole
      ? measure.clip : measure.instants.subarray(state.instant * count, (state.instant + 1) * count);
    const top = whole ? measure.clipMax : measure.instantMax;
    return { values, low: state.measure === "signed" ? -top : 0, high: top, ramp: state.measure };
  }

  // --- the face as a flat drawing: overview, paper, and browsers without WebGL ---------------
  function drawStill(element, emotion, state) {
    const [x, depth, z] = emotion.at(state.instant);
    const { values, low, high, ramp } = colouring(emotion, state);
    const order = Array.from({ length: triangles.length / 3 }, (_, t) => t);
    const far = order.map((t) => depth[triangles[3 * t]] + depth[triangles[3 * t + 1]]
      + depth[triangles[3 * t + 2]]);
    order.sort((a, b) => far[b] - far[a]);
    const point = (i) => `${(100 * x[i]).toFixed(1)},${(-100 * z[i]).toFixed(1)}`;
    const shapes = order.map((t) => {
      const corners = [0, 1, 2].map((k) => triangles[3 * t + k]);
      const mean = sum(corners.map((i) => values[i])) / 3;
      const colour = colourAt(ramps[ramp], (mean - low) / (high - low));
      return `<path d="M${corners.map(point).join("L")}Z" fill="${colour}" stroke="${colour}"/>`;
    });
    const lines = [];
    for (let e = 0; e < contours.length; e += 2) {
      lines.push(`M${point(contours[e])}L${point(contours[e + 1])}`);
    }
    const rings = (state.kept && emotion.kept || []).map((i) =>
      `<circle cx="${(100 * x[i]).toFixed(1)}" cy="${(-100 * z[i]).toFixed(1)}" r="1.4"/>`);
    const [left, right] = [Math.min(...x), Math.max(...x)].map((v) => 100 * v);
    const [top, bottom] = [Math.max(...z), Math.min(...z)].map((v) => -100 * v);
    element.innerHTML = `<svg viewBox="${left - 6} ${top - 6} ${right - left + 12} ${
      bottom - top + 12}" aria-hidden="true"><g stroke-width="0.8">${shapes.join("")}</g>
      <path d="${lines.join("")}" fill="none" stroke="${theme.stroke}" stroke-width="1.1"/>
      <g fill="#fff" stroke="#000" stroke-width="0.7">${rings.join("")}</g></svg>`;
  }

  // --- figures -------------------------------------------------------------------------------
  const font = () => ({ color: theme.ink, family: "system-ui, sans-serif", size: 12 });
  const axis = (options) => Object.assign(
    { gridcolor: theme.line, zerolinecolor: theme.line, linecolor: theme.line, automargin: true,
      fixedrange: true }, options);
  const layout = (options) => Object.assign(
    { font: font(), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 12, t: 8, b: 8 }, showlegend: false,
      hoverlabel: { bgcolor: theme.hover, font: font(), bordercolor: theme.line } }, options);
  const config = { displayModeBar: false, scrollZoom: false };

  const cameras = {
    front: { x: 0, y: -2, z: 0 },
    right: { x: -1.4, y: -1.4, z: 0.1 },
    left: { x: 1.4, y: -1.4, z: 0.1 },
  };
  const camera = (view) => ({
    eye: cameras[view], up: { x: 0, y: 0, z: 1 }, center: { x: 0, y: 0, z: -0.12 },
    projection: { type: "perspective" },
  });

  function hoverText(emotion, state) {
    const { values } = colouring(emotion, state);
    const kept = new Set(emotion.kept || []);
    return data.names.map((name, i) => {
      const value = state.measure === "signed"
        ? `signed attribution ${signed(values[i])} logits`
        : `${words[state.measure]} ${percent(values[i])}`;
      const [rank, low, high] = emotion.explanation.ranks[i];
      return `<b>${name}</b> (${i})<br>${data.regions[data.region[i]]}<br>${value}<br>rank ${rank} (${
        low} to ${high})${kept.has(i) ? "<br>kept" : ""}`;
    });
  }

  /** Coordinates of the three traces: the mesh, its contours, the kept landmarks. */
  function places(emotion, state) {
    const face = emotion.at(state.instant);
    const lift = [0, -0.02, 0]; // towards the viewer, so that nothing sinks into the skin
    const lines = face.map((values, k) => {
      const out = [];
      for (let e = 0; e < contours.length; e += 2) {
        out.push(values[contours[e]] + lift[k], values[contours[e + 1]] + lift[k], null);
      }
      return out;
    });
    const rings = face.map((values, k) =>
      (state.kept && emotion.kept || []).map((i) => values[i] + lift[k]));
    return { x: [face[0], lines[0], rings[0]], y: [face[1], lines[1], rings[1]],
             z: [face[2], lines[2], rings[2]] };
  }

  function skin(emotion, state) {
    const { values, low, high, ramp } = colouring(emotion, state);
    return { intensity: values, cmin: low, cmax: high, colorscale: scaleOf(ramp),
             text: hoverText(emotion, state),
             title: state.measure === "signed" ? "logits" : `% of ${words[state.measure]}` };
  }

  function drawFace(element, emotion, state) {
    if (!webgl) {
      drawStill(element, emotion, state);
      return;
    }
    const { x, y, z } = places(emotion, state);
    const { title, ...colours } = skin(emotion, state);
    const corner = (k) => Array.from({ length: triangles.length / 3 }, (_, t) => triangles[3 * t + k]);
    const mesh = {
      type: "mesh3d", x: x[0], y: y[0], z: z[0], i: corner(0), j: corner(1), k: corner(2), ...colours,
      hovertemplate: "%{text}<extra></extra>", flatshading: false,
      lighting: { ambient: 0.72, diffuse: 0.45, specular: 0.05, roughness: 0.9 },
      lightposition: { x: -600, y: -2000, z: 1500 },
      colorbar: { orientation: "h", thickness: 9, len: 0.6, y: 0, yanchor: "bottom", outlinewidth: 0,
                  title: { text: title, side: "top", font: font() }, tickfont: font(), nticks: 5 },
    };
    const lines = {
      type: "scatter3d", mode: "lines", x: x[1], y: y[1], z: z[1], hoverinfo: "skip",
      line: { color: theme.stroke, width: 2.5 },
    };
    const rings = {
      type: "scatter3d", mode: "markers", x: x[2], y: y[2], z: z[2], hoverinfo: "skip",
      marker: { size: 4, color: "#ffffff", line: { color: "#000000", width: 1.5 }, opacity: 1 },
    };
    const hidden = { visible: false };
    Plotly.newPlot(element, [mesh, lines, rings], layout({
      margin: { l: 0, r: 0, t: 0, b: 0 },
      scene: { xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data",
               camera: camera("front"), dragmode: "orbit" },
    }), config);
  }

  function moveFace(element, emotion, state) {
    if (!webgl) {
      drawStill(element, emotion, state);
      return;
    }
    Plotly.restyle(element, places(emotion, state), [0, 1, 2]);
    if (state.when === "instant") colourFace(element, emotion, state);
  }

  function colourFace(element, emotion, state) {
    if (!webgl) {
      drawStill(element, emotion, state);
      return;
    }
    const { title, ...colours } = skin(emotion, state);
    const update = Object.fromEntries(Object.entries(colours).map(([key, value]) => [key, [value]]));
    Plotly.restyle(element, { ...update, "colorbar.title.text": title }, [0]);
  }

  /** Bars over groups of landmarks: `kind` is "regions" or "units". */
  function drawBars(element, emotion, state, kind) {
    const values = emotion.measures[state.measure][kind];
    const members = kind === "units" ? data.unitSize : data.regionSize;
    const order = values.map((_, r) => r).sort((a, b) => Math.abs(values[a]) - Math.abs(values[b]));
    const plus = state.measure === "signed";
    const show = plus ? signed : percent;
    const names = order.map((r) => `${data[kind][r]}  <b>${show(values[r])}</b>`);
    const bars = {
      type: "bar", orientation: "h", y: names, x: order.map((r) => values[r]),
      marker: { color: order.map((r) => values[r] < 0 ? theme.other : theme.accent) },
      hovertemplate: "%{y}<extra></extra>",
    };
    const even = {
      type: "scatter", mode: "markers", y: names, visible: !plus,
      x: order.map((r) => 100 * members[r] / count),
      marker: { symbol: "line-ns", size: 13, line: { width: 2, color: theme.ink } },
      hovertemplate: "%{x:.1f} % of the landmarks<extra></extra>",
    };
    const reach = Math.max(...values.map(Math.abs), plus ? 0 : 100 * Math.max(...members) / count);
    const [low, high] = plus
      ? [1.05 * Math.min(0, ...values), 1.05 * Math.max(0, ...values)] : [0, 1.05 * reach];
    Plotly.react(element, [bars, even], layout({
      bargap: 0.3, yaxis: axis({ showgrid: false, ticksuffix: "  " }),
      xaxis: axis({ range: [low, high], ticksuffix: plus ? "" : " %",
                    title: { text: plus ? "signed attribution, logits" : `share of all ${words[state.measure]}` } }),
    }), config);
  }

  function drawHeat(element, emotion, state) {
    const measure = emotion.measures[state.measure];
    const plus = state.measure === "signed";
    const top = Math.max(...measure.heat.flat().map(Math.abs)) || 1;
    const map = {
      type: "heatmap", x: measure.time, y: data.regions, z: measure.heat, colorscale: scaleOf(state.measure),
      zmin: plus ? -top : 0, zmax: top, xgap: 0.5, ygap: 1,
      colorbar: { thickness: 9, outlinewidth: 0, tickfont: font(), nticks: 5,
                  title: { text: plus ? "logits" : "%", font: font() } },
      hovertemplate: `%{y}, at %{x} % of the clip: %{z:.3g}${plus ? " logits" : " %"}<extra></extra>`,
    };
    Plotly.react(element, [map], layout({
      yaxis: axis({ autorange: "reversed", showgrid: false, dtick: 1, tickfont: { size: 10.5 } }),
      xaxis: axis({ showgrid: false, ticksuffix: " %", title: { text: "time within the clip" } }),
      shapes: [timeMark(emotion, state)],
    }), config);
  }

  const timeMark = (emotion, state) => {
    const x = emotion.explanation.instants[state.instant];
    return { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1,
             line: { color: "#e0428f", width: 3, dash: "dot" } };
  };

  function drawErrors(element, emotion) {
    const { edges, counts } = emotion.explanation.histogram;
    const power = edges.map((e) => 10 ** e);
    const bars = {
      type: "bar", y: counts, x: counts.map((_, i) => 10 ** ((edges[i] + edges[i + 1]) / 2)),
      width: counts.map((_, i) => power[i + 1] - power[i]), marker: { color: theme.accent },
      customdata: counts.map((_, i) => `${power[i].toExponential(1)} to ${power[i + 1].toExponential(1)}`),
      hovertemplate: "%{y} clips: %{customdata} logits<extra></extra>",
    };
    Plotly.react(element, [bars], layout({
      bargap: 0,
      xaxis: axis({ type: "log", exponentformat: "power", dtick: edges.at(-1) - edges[0] > 1.2 ? 1 : "D2",
                    title: { text: "completeness error, logits" } }),
      yaxis: axis({ title: { text: "clips" }, rangemode: "tozero" }),
    }), config);
  }

  function drawNodes(element, emotion) {
    const { edges, counts } = emotion.explanation.nodes;
    const bars = {
      type: "bar", y: counts, x: counts.map((_, i) => (edges[i] + edges[i + 1] - 1) / 2),
      width: counts.map((_, i) => edges[i + 1] - edges[i]), marker: { color: theme.accent },
      customdata: counts.map((_, i) => edges[i + 1] - edges[i] > 1
        ? `${edges[i]} to ${edges[i + 1] - 1}` : `${edges[i]}`),
      hovertemplate: "%{y} clips: %{customdata} nodes<extra></extra>",
    };
    Plotly.react(element, [bars], layout({
      bargap: 0,
      xaxis: axis({ range: [Math.max(0, edges[0] - 10), edges.at(-1) + 9], tickformat: "d", nticks: 8,
                    title: { text: "nodes" } }),
      yaxis: axis({ title: { text: "clips" }, rangemode: "tozero" }),
    }), config);
  }

  function drawScores(element, emotion) {
    const rows = emotion.scores;
    const line = (key, name, style) => ({
      type: "scatter", mode: "lines+markers", name, x: rows.map((r) => r.landmarks),
      y: rows.map((r) => r[key]), connectgaps: true,
      hovertemplate: `${name}, %{x} landmarks: %{y:.3f}<extra></extra>`, ...style,
      error_y: rows.some((r) => Number.isFinite(r[`${key}Low`]))
        ? { type: "data", symmetric: false, array: rows.map((r) => r[`${key}High`] - r[key]),
            arrayminus: rows.map((r) => r[key] - r[`${key}Low`]), thickness: 1.2, width: 4 }
        : undefined,
    });
    const traces = [
      line("random", "random control", { line: { color: theme.other, dash: "dash" },
        marker: { symbol: "x", size: 8, color: theme.other } }),
      line("anchor", "logistic regression", { line: { color: theme.soft, dash: "dashdot" },
        marker: { symbol: "diamond-open", size: 8, color: theme.soft } }),
      line("masked", "full model, masked", { line: { color: theme.soft, dash: "dot" },
        marker: { symbol: "square-open", size: 8, color: theme.soft } }),
      line("chosen", "chosen", { line: { color: theme.accent, width: 3 },
        marker: { symbol: "circle", size: 9, color: theme.accent } }),
    ].filter((trace) => trace.y.some((v) => v !== null));
    const best = rows.find((r) => emotion.kept && r.landmarks === emotion.kept.length);
    const sizes = rows.map((r) => r.landmarks);
    Plotly.react(element, traces, layout({
      showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      margin: { l: 8, r: 12, t: 24, b: 8 },
      xaxis: axis({ type: "log", tickvals: sizes, ticktext: sizes.map(String),
                    title: { text: "landmarks kept" }, showgrid: false }),
      yaxis: axis({ title: { text: "balanced accuracy" }, tickformat: ".2f" }),
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0.5, y1: 0.5,
                 line: { color: theme.soft, width: 1 } }],
      annotations: [
        { xref: "paper", x: 1, y: 0.5, yanchor: "bottom", xanchor: "right", showarrow: false, text: "chance",
          font: { color: theme.soft, size: 11 } },
        ...(best ? [{ x: Math.log10(best.landmarks), y: best.chosen, text: `best: ${best.landmarks}`, ay: -34,
                      ax: 0, arrowcolor: theme.soft, font: font() }] : []),
      ],
    }), config);
  }

  function drawReliability(element, emotion) {
    const { predicted, observed, clips } = emotion.reliability;
    const dots = {
      type: "scatter", mode: "lines+markers", x: predicted, y: observed, customdata: clips,
      line: { color: theme.accent, width: 2 },
      marker: { color: theme.accent, size: clips.map((n) => 5 + 14 * Math.sqrt(n / Math.max(...clips))) },
      hovertemplate: "predicted %{x:.2f}, observed %{y:.2f}<br>%{customdata} clips<extra></extra>",
    };
    Plotly.react(element, [dots], layout({
      xaxis: axis({ range: [-0.03, 1.03], title: { text: "predicted probability" }, tickformat: ".1f" }),
      yaxis: axis({ range: [-0.03, 1.03], title: { text: "observed share" }, tickformat: ".1f" }),
      shapes: [{ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { color: theme.soft, dash: "dot" } }],
    }), config);
  }

  // --- sections ------------------------------------------------------------------------------
  const sections = new Map();
  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (target.layout && contentRect.width) Plotly.Plots.resize(target);
    }
  });

  function build(section) {
    if (sections.has(section)) return;
    const emotion = data.emotions[section.dataset.emotion];
    const state = { measure: "relevance", when: "clip", instant: 0, kept: true };
    if (emotion.explanation) state.instant = emotion.explanation.apex;
    const plot = (name) => section.querySelector(`[data-plot="${name}"]`);
    sections.set(section, { emotion, state, plot });
    drawAll(section);
    section.querySelectorAll(".plot").forEach((element) => sizes.observe(element));
    if (emotion.explanation) connect(section);
  }

  function drawAll(section) {
    const { emotion, state, plot } = sections.get(section);
    if (emotion.explanation) {
      drawFace(plot("face"), emotion, state);
      drawBars(plot("regions"), emotion, state, "regions");
      drawBars(plot("units"), emotion, state, "units");
      drawHeat(plot("heat"), emotion, state);
      drawErrors(plot("errors"), emotion);
      drawNodes(plot("nodes"), emotion);
    }
    if (emotion.scores.length) {
      drawScores(plot("scores"), emotion);
      drawReliability(plot("reliability"), emotion);
    }
  }

  function connect(section) {
    const { emotion, state, plot } = sections.get(section);
    const slider = section.querySelector("[data-time]");
    const clock = section.querySelector("[data-clock]");
    const play = section.querySelector("[data-play]");
    let timer = null;
    const show = (instant) => {
      state.instant = instant;
      slider.value = instant;
      clock.textContent = `${Math.round(emotion.explanation.instants[instant])} %`;
      slider.setAttribute("aria-valuetext", `${clock.textContent} of the clip`);
      moveFace(plot("face"), emotion, state);
      Plotly.relayout(plot("heat"), { "shapes[0]": timeMark(emotion, state) });
    };
    const halt = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    slider.addEventListener("input", () => { halt(); show(Number(slider.value)); });
    play.addEventListener("click", () => {
      if (timer) { halt(); return; }
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => show((state.instant + 1) % emotion.explanation.instants.length), 90);
    });
    section.addEventListener("change", ({ target }) => {
      if (target.name?.startsWith("measure-")) {
        state.measure = target.value;
        drawBars(plot("regions"), emotion, state, "regions");
        drawBars(plot("units"), emotion, state, "units");
        drawHeat(plot("heat"), emotion, state);
      } else if (target.name?.startsWith("when-")) {
        state.when = target.value;
      } else if (target.dataset.kept !== undefined) {
        state.kept = target.checked;
        moveFace(plot("face"), emotion, state);
        return;
      } else {
        return;
      }
      colourFace(plot("face"), emotion, state);
    });
    section.addEventListener("click", ({ target }) => {
      if (target.dataset.view && webgl) {
        Plotly.relayout(plot("face"), { "scene.camera": camera(target.dataset.view) });
      }
    });
    show(state.instant);
  }

  function redraw() {
    for (const section of sections.keys()) drawAll(section);
    drawStills();
  }

  function drawStills() {
    for (const element of document.querySelectorAll("[data-face]")) {
      const emotion = data.emotions[element.dataset.face];
      drawStill(element, emotion, { measure: "relevance", when: "clip", kept: true,
                                    instant: emotion.explanation.apex });
    }
  }

  drawStills();
  const emotions = [...document.querySelectorAll("[data-emotion]")];
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) { observer.unobserve(target); build(target); }
    }
  }, { rootMargin: "400px" });
  for (const section of emotions) observer.observe(section);
  dark.addEventListener("change", () => {
    theme = dark.matches ? themes.dark : themes.light;
    redraw();
  });
  addEventListener("beforeprint", () => {
    theme = themes.light;
    emotions.forEach(build);
    redraw();
  });
  addEventListener("afterprint", () => {
    theme = dark.matches ? themes.dark : themes.light;
    redraw();
  });
  document.documentElement.dataset.ready = "true";
})();
