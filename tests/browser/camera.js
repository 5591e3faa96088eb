// What stands before the camera, in place of getUserMedia: pictures of the sample people, drawn at a camera's rate.
// A person hears what the page asks for by reading the answers it gets, as a person reads the page.
// `window.person` says who is there: "live" does what is asked, and the screen's colours light her; "film" does it, too, and
// no screen lights it; "bright" is live in so much light that the screen adds nothing to be seen; "photo" is a still one.
(shown => {
  const PERIOD_MS = 100, WATCHED_PERIOD_MS = 30, CALM_BETWEEN = 3, LONGER = 3;
  if (!navigator.mediaDevices) return;
  window.person = shown.person;
  window.colours = [];
  const canvas = document.createElement("canvas");
  canvas.width = shown.width;
  canvas.height = shown.height;
  const context = canvas.getContext("2d");
  const pictures = new Map();
  const picture = key => {
    if (!pictures.has(key)) {
      const bytes = Uint8Array.from(atob(shown.jpegs[key]), c => c.charCodeAt(0));
      pictures.set(key, createImageBitmap(new Blob([bytes], { type: "image/jpeg" })));
    }
    return pictures.get(key);
  };
  let prompt = "NEUTRAL", asked = "", holdMs = 0, mirrored = false, queue = [], calmAt = 0, gestures = 0;
  const calm = () => shown.calm[calmAt++ % shown.calm.length];
  const next = () => {
    const filmed = shown.gestures[prompt === "TURN_LEFT" ? "TURN_RIGHT" : prompt];
    if (!filmed || prompt === "NEUTRAL") return calm();
    if (!queue.length) {
      const frames = filmed[gestures++ % filmed.length];
      for (let i = 0; i < CALM_BETWEEN; i++) queue.push(calm());
      queue.push(...(holdMs ? frames.slice(0, Math.ceil(holdMs / PERIOD_MS) + LONGER) : frames));
    }
    return queue.shift();
  };
  const draw = async () => {
    if (window.person === "photo") return context.drawImage(await picture(`${shown.calm[0]}`), 0, 0);
    const side = mirrored ? "m" : "";
    if (prompt !== "WATCH_COLOURS") return context.drawImage(await picture(`${next()}${side}`), 0, 0);
    const screen = document.querySelector(".flash");
    const colour = screen ? screen.className.replace("flash ", "") : "";
    const seen = { live: colour, film: "", bright: "BRIGHT" }[window.person];
    const lit = shown.watching[calmAt++ % shown.watching.length];
    context.drawImage(await picture(`${lit}${side}${seen}`), 0, 0);
  };
  const run = async () => {
    for (;;) {
      const due = performance.now() + (prompt === "WATCH_COLOURS" ? WATCHED_PERIOD_MS : PERIOD_MS);
      await draw();
      await new Promise(go => setTimeout(go, Math.max(0, due - performance.now())));
    }
  };
  const hear = step => {
    const now = `${step.attempt} ${step.promptIndex} ${step.prompt}`;
    if (now === asked) return;
    asked = now;
    prompt = step.prompt.replace("PROMPT_", "");
    holdMs = step.holdMs;
    queue = [];
    if (prompt === "NEUTRAL") mirrored = false;
    if (prompt === "TURN_RIGHT") mirrored = false;
    if (prompt === "TURN_LEFT") mirrored = true;
  };
  const real = window.fetch;
  window.fetch = async (...call) => {
    const answer = await real(...call);
    if (/startLiveness|submitFrames/.test(call[0]) && answer.ok) hear(await answer.clone().json());
    return answer;
  };
  // What the screen showed, for the tests to compare with what was drawn for the attempt.
  new MutationObserver(() => {
    const screen = document.querySelector(".flash");
    if (screen) window.colours.push([screen.className.replace("flash ", ""), performance.now()]);
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
  // A phone is turned: the camera's picture changes its sides.
  window.turn = () => { [canvas.width, canvas.height] = [canvas.height, canvas.width]; };
  let running = null;
  navigator.mediaDevices.getUserMedia = async () => {
    if (window.person === "refused") throw new DOMException("denied", "NotAllowedError");
    running ??= run();
    return canvas.captureStream(30);
  };
})
