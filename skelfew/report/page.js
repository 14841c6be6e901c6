"use strict";
// Skeletons play by one clock; everything on the page can be read without this script.
(() => {
  const clips = JSON.parse(document.getElementById("clips").textContent);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const UNSEEN = -9999, MILLISECONDS = 80;
  const pairs = [];

  const decode = (token) => {
    const bytes = atob(token.replaceAll("-", "+").replaceAll("_", "/"));
    return new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
  };

  const show = (figure, clip, part) => {
    // `part` runs from 0 to 1 over every clip, so that long and short ones stay together.
    const moment = Math.min(Math.floor(part * clip.frames.length), clip.frames.length - 1);
    const lines = figure.querySelectorAll("line.bone");
    const heads = figure.querySelectorAll("circle.head");
    let at = 0;
    for (const [number, body] of clip.frames[moment].entries()) {
      for (const [child, parent] of clip.bones) {
        const line = lines[at++];
        const ends = [2 * child, 2 * child + 1, 2 * parent, 2 * parent + 1].map((i) => body[i]);
        const seen = !ends.includes(UNSEEN);
        line.setAttribute("visibility", seen ? "visible" : "hidden");
        if (seen) ["x1", "y1", "x2", "y2"].forEach((name, i) => line.setAttribute(name, ends[i]));
      }
      if (clip.head === null) continue;
      const [x, y] = body.slice(2 * clip.head, 2 * clip.head + 2);
      heads[number].setAttribute("visibility", x === UNSEEN ? "hidden" : "visible");
      heads[number].setAttribute("cx", x);
      heads[number].setAttribute("cy", y);
    }
  };

  const rebuild = (figure, clip) => {
    const svg = figure.querySelector("svg"), group = svg.querySelector("g");
    group.replaceChildren();
    const add = (name, kind) => {
      const element = document.createElementNS(svg.namespaceURI, name);
      element.setAttribute("class", kind);
      if (name === "circle") element.setAttribute("r", 6);
      group.append(element);
    };
    clip.frames[0].forEach((_, number) => {
      for (const [, , side] of clip.bones) add("line", `bone side${side} body${number % 2}`);
      if (clip.head !== null) add("circle", `head body${number % 2}`);
    });
    const floor = svg.querySelector("line.floor");
    if (floor && clip.floor !== null) {
      floor.setAttribute("y1", clip.floor);
      floor.setAttribute("y2", clip.floor);
    }
  };

  const pairOf = (article, part) => {
    const figures = [...article.querySelectorAll("figure[data-clip]")];
    const controls = article.querySelector(".controls");
    if (!figures.length || !controls) return null;
    const clipOf = (token) => clips[`${part} ${decode(token)}`];
    const moving = figures.map((figure) => ({ figure, clip: clipOf(figure.dataset.clip) }));
    const button = controls.querySelector(".play"), slider = controls.querySelector(".moment");
    const steps = Math.max(...moving.map(({ clip }) => clip.frames.length));
    const pair = { at: Math.floor(steps / 2), playing: false, near: true };
    slider.max = steps - 1;
    pair.draw = () => {
      slider.value = pair.at;
      slider.setAttribute("aria-valuetext", `${pair.at + 1} of ${steps}`);
      moving.forEach(({ figure, clip }) => show(figure, clip, pair.at / steps));
    };
    pair.step = () => {
      pair.at = (pair.at + 1) % steps;
      pair.draw();
    };
    pair.play = (on) => {
      pair.playing = on;
      button.textContent = on ? "Pause" : "Play";
      article.toggleAttribute("data-playing", on);
    };
    button.addEventListener("click", () => {
      pair.play(!pair.playing);
      tellAll();
    });
    slider.addEventListener("input", () => {
      pair.play(false);
      pair.at = Number(slider.value);
      pair.draw();
      tellAll();
    });
    const next = controls.querySelector(".next");
    const queries = article.dataset.queries.split(" ").filter(Boolean);
    let query = 0;
    next?.addEventListener("click", () => {
      query = (query + 1) % queries.length;
      const clip = clipOf(queries[query]), one = moving[0];
      one.clip = clip;
      one.figure.dataset.clip = queries[query];
      one.figure.querySelector(".sample").textContent = decode(queries[query]);
      const title = one.figure.querySelector("title");
      title.textContent = `${one.figure.querySelector("figcaption").firstChild.textContent}, ${decode(queries[query])}`;
      rebuild(one.figure, clip);
      pair.draw();
    });
    controls.hidden = false;
    pair.draw();
    return pair;
  };

  const alls = [...document.querySelectorAll(".pause-all")];
  const tellAll = () => {
    const any = pairs.some((pair) => pair.playing);
    for (const all of alls) all.textContent = any ? "Pause all" : "Play all";
  };

  for (const part of document.querySelectorAll("[data-part]")) {
    for (const article of part.querySelectorAll(".pair")) {
      const pair = pairOf(article, part.dataset.part);
      if (!pair) continue;
      pairs.push(pair);
      pair.play(!still.matches);
      new IntersectionObserver(([entry]) => (pair.near = entry.isIntersecting)).observe(article);
    }
  }
  for (const all of alls) {
    all.hidden = !pairs.length;
    all.addEventListener("click", () => {
      const on = !pairs.some((pair) => pair.playing);
      pairs.forEach((pair) => pair.play(on));
      tellAll();
    });
  }
  tellAll();
  still.addEventListener("change", () => {
    if (still.matches) pairs.forEach((pair) => pair.play(false));
    tellAll();
  });
  setInterval(() => {
    for (const pair of pairs) if (pair.playing && pair.near) pair.step();
  }, MILLISECONDS);

  for (const map of document.querySelectorAll(".map")) {
    const buttons = [...map.querySelectorAll("button[data-class]")];
    const marks = [...map.querySelectorAll("figure .mark")];
    const choose = () => {
      const on = buttons.filter((b) => b.getAttribute("aria-pressed") === "true");
      const chosen = new Set(on.map((b) => b.dataset.class));
      for (const mark of marks) {
        mark.classList.toggle("away", chosen.size > 0 && !chosen.has(mark.dataset.class));
      }
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") === "true";
        button.setAttribute("aria-pressed", String(!on));
        choose();
      });
    }
  }

  const lightColumn = (table, column) => {
    for (const head of table.querySelectorAll("thead th")) {
      head.classList.toggle("lit", head.dataset.column === String(column));
    }
  };
  for (const table of document.querySelectorAll("table.matrix")) {
    for (const event of ["mouseover", "focusin"]) {
      table.addEventListener(event, ({ target }) => {
        const cell = target.closest("tbody td");
        lightColumn(table, cell ? cell.cellIndex - 1 : null);
      });
    }
  }
})();
